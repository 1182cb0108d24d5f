"""Row accounting: every sequence has one contiguous row, live rows packed at the front.

The layout of the ONNX runner, whose graph reads a range of neighbouring rows. Implements `KVCache`
for the scheduler. A fork copies its parent's row; a finished sequence's prompt is kept as a donor,
so that one that begins the same way copies it instead of computing it. What a row holds must not
depend on who else is running, to the last bit, so prompts are computed and shared in pieces that
end at multiples of `alignment`, and nothing is ever preempted. Copies are only noted here
(`RowMoves`) and carried out by the runner before it writes. No tensors.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache import TokensBetween
from engine.row_moves import RowCopy, RowMoves


@dataclass(slots=True, eq=False)
class _Row:
    """What a row holds: the tokens computed in it, and how much room it has taken."""

    at: int  # its place among the rows
    salt: str = ""
    token_ids: list[int] = field(default_factory=list)  # computed
    room: int = 0  # tokens reserved
    num_prompt: int = 0  # leading tokens that are, or will be, computed piece by piece

    @property
    def length(self) -> int:
        """Positions that may hold something: computed tokens, and guesses behind them."""
        return max(self.room, len(self.token_ids))


class RowCache:
    """Rows of live sequences and of donors. Written by the scheduler's calls and `pack` only."""

    def __init__(self, *, num_rows: int, num_donors: int, max_tokens: int, alignment: int) -> None:
        self._alignment = alignment
        self._num_rows = num_rows
        self._max_tokens = max_tokens
        self._live: list[_Row] = []  # in order of place: _live[i].at == i
        self._row_of: dict[int, _Row] = {}
        self._donors: OrderedDict[int, _Row] = OrderedDict()  # by place, least recently used first
        self._free_donor_places = list(range(num_rows, num_rows + num_donors))
        self._moves = RowMoves(spare_row=num_rows + num_donors)

    @property
    def max_tokens(self) -> int:
        """Tokens the cache can hold."""
        return self._max_tokens

    @property
    def block_size(self) -> int:
        """Tokens of a prompt that are found again together: a piece of it."""
        return self._alignment

    @property
    def alignment(self) -> int:
        """Pieces of a prompt end at multiples of this."""
        return self._alignment

    @property
    def can_preempt(self) -> bool:
        """Never: generated tokens computed again as a piece would differ in the last bits."""
        return False

    @property
    def num_used_tokens(self) -> int:
        """Room taken by live sequences."""
        return sum(row.room for row in self._live)

    def max_tokens_of(self, num_rows: int, num_tokens: int) -> int:
        """Room that rows of `num_tokens` each take: nothing is shared."""
        return num_rows * num_tokens

    def match_prefix(self, sequence_id: int, token_ids: Sequence[int], salt: str) -> int:
        """Open a row for the sequence, copying the longest known beginning of its tokens."""
        row = _Row(at=len(self._live), salt=salt, num_prompt=len(token_ids))
        assert row.at < self._num_rows, "the scheduler admits no more rows than there are"
        source, length = self._best_source(token_ids, salt)
        self._live.append(row)
        self._row_of[sequence_id] = row
        self._moves.forget(row.at)
        if source is not None:
            self._moves.move(source.at, row.at, length)
            row.token_ids = list(token_ids[:length])
            row.room = length
            if source.at in self._donors:
                self._donors.move_to_end(source.at)
        return length

    def can_reserve(self, num_tokens: int) -> bool:
        """Whether live rows leave that much room; donors give way."""
        return self.num_used_tokens + num_tokens <= self._max_tokens

    def reserve(self, sequence_id: int, start: int, end: int) -> bool:  # noqa: ARG002  paged only
        """Make the row hold positions up to `end`; donors give way, live rows do not."""
        row = self._row_of[sequence_id]
        if not self.can_reserve(max(0, end - row.room)):
            return False
        row.room = max(row.room, end)
        while self._donors and self.num_used_tokens + self._num_donated > self._max_tokens:
            self._drop_donor(next(iter(self._donors)))
        return True

    def mark_computed(self, sequence_id: int, num_computed: int, tokens: TokensBetween) -> None:
        """Note which tokens the row holds by now."""
        known = self._row_of[sequence_id].token_ids
        known.extend(tokens(len(known), num_computed))

    def fork(self, parent_id: int, child_id: int) -> None:
        """Open a row for a new sequence that begins as a copy of its parent's."""
        parent = self._row_of[parent_id]
        child = _Row(
            at=len(self._live),
            salt=parent.salt,
            token_ids=parent.token_ids.copy(),
            room=len(parent.token_ids),
            num_prompt=parent.num_prompt,
        )
        assert child.at < self._num_rows, "the scheduler forks no more rows than there are"
        self._live.append(child)
        self._row_of[child_id] = child
        self._moves.move(parent.at, child.at, len(child.token_ids))

    def release(self, sequence_id: int) -> None:
        """Close a row; unknown ids are fine. What it holds is kept as a donor if it is worth it."""
        row = self._row_of.pop(sequence_id, None)
        if row is None:
            return
        self._donate(row)
        last = self._live.pop()
        if last is not row:
            self._moves.move(last.at, row.at, last.length)
            last.at, place = row.at, last.at
            self._live[last.at] = last
            row.at = place
        self._moves.forget(row.at)

    def pack(self, sequence_ids: Sequence[int]) -> None:
        """Bring these sequences' rows to the front, so that one range holds them and no others."""
        chosen = [self._row_of[sequence_id] for sequence_id in sequence_ids]
        outside = [row for row in chosen if row.at >= len(chosen)]
        places = {row.at for row in chosen}
        gaps = [at for at in range(len(chosen)) if at not in places]
        for row, gap in zip(outside, gaps, strict=True):
            other = self._live[gap]
            self._moves.swap(row.at, gap, (row.length, other.length))
            self._live[row.at], self._live[gap] = other, row
            row.at, other.at = gap, row.at

    def place(self, sequence_id: int) -> int:
        """Which row is the sequence's."""
        return self._row_of[sequence_id].at

    def take_copies(self) -> list[RowCopy]:
        """Row copies to be made, in this order, before the next write."""
        return self._moves.take()

    def lengths(self) -> dict[int, int]:
        """How many positions of each row are in use, by place; other rows hold nothing."""
        rows = (*self._live, *self._donors.values())
        return {row.at: row.length for row in rows}

    @property
    def _num_donated(self) -> int:
        return sum(len(donor.token_ids) for donor in self._donors.values())

    def _best_source(self, token_ids: Sequence[int], salt: str) -> tuple[_Row | None, int]:
        """The row that shares the longest beginning in whole pieces; a token is left to compute."""
        wanted = list(token_ids[:-1])
        best, best_length = None, 0
        for row in (*self._live, *self._donors.values()):
            length = self._num_shared(row, wanted) if row.salt == salt else 0
            if length > best_length:
                best, best_length = row, length
        return best, best_length

    def _num_shared(self, row: _Row, wanted: list[int]) -> int:
        """How many leading tokens of `wanted` a row holds, in whole pieces of its prompt."""
        length = min(_common_length(row.token_ids, wanted), row.num_prompt)
        return length - length % self._alignment

    def _donate(self, row: _Row) -> None:
        """Keep the whole pieces of a closing row's prompt, unless another row holds them too."""
        length = self._num_shared(row, row.token_ids)
        prompt = row.token_ids[:length]
        others = (other for other in (*self._live, *self._donors.values()) if other is not row)
        is_known = any(
            other.salt == row.salt and self._num_shared(other, prompt) == length for other in others
        )
        if is_known or length == 0:
            return
        if not self._free_donor_places:
            self._drop_donor(next(iter(self._donors)))
        place = self._free_donor_places.pop()
        self._donors[place] = _Row(at=place, salt=row.salt, token_ids=prompt, num_prompt=length)
        self._moves.move(row.at, place, length)

    def _drop_donor(self, place: int) -> None:
        del self._donors[place]
        self._moves.forget(place)
        self._free_donor_places.append(place)


def _common_length(one: list[int], other: list[int]) -> int:
    """How many leading tokens two lists share."""
    if not one or not other or one[0] != other[0]:
        return 0
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(at for at in range(shorter) if one[at] != other[at])
