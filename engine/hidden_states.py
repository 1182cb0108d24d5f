"""How like a row's newest token is to what came before it: cosines of hidden states.

For strategies that ask for it (`contrastive`). The engine hands over the hidden states of each
step; what rows have in common is kept once. A row's similarity is a figure of its own tokens alone.
"""

from collections.abc import Sequence
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from decoding.base import Continuation
from decoding.logits import Logits
from engine.plan import Plan, PlannedRow
from engine.sequence import Group
from engine.sequence import Sequence as Row

_FIRST_ROOM = 64  # tokens


class HiddenStates:
    """The past of all groups that want it; a group that is gone leaves nothing behind."""

    def __init__(self) -> None:
        self._groups: WeakKeyDictionary[Group, dict[int, _Past]] = WeakKeyDictionary()

    def note(self, plan: Plan, said: Logits) -> None:
        """Take up what a step says of watched rows, and tell those how like their ends are."""
        if not plan.watched:
            return
        assert said.hidden is not None, "the runner has hidden states, or the request was refused"
        ends = list(accumulate(row.num_logits for row in plan.rows))
        states_of = {
            row.sequence.id: said.hidden[end - row.num_logits : end]
            for row, end in zip(plan.rows, ends, strict=True)
        }
        for watched in plan.watched:
            pasts = self._groups.setdefault(watched.group, {})
            _note(pasts, watched.row, states_of[watched.row.sequence.id])

    def follow(self, group: Group, before: Sequence[Row], live: Sequence[Continuation]) -> None:
        """A decision has replaced the rows that the group had `before`."""
        pasts = self._groups.get(group)
        if pasts is None or not live:
            return
        parents = {child.parent for child in live}
        settled = {at: pasts[before[at].id].settled() for at in parents}
        self._groups[group] = {
            row.id: settled[child.parent] for row, child in zip(group.rows, live, strict=True)
        }


def _note(pasts: "dict[int, _Past]", planned: PlannedRow, states: Tensor) -> None:
    """Add the states of a row's tokens, [planned tokens, width]."""
    row = planned.sequence
    past = _Past() if planned.start == 0 else pasts[row.id]
    units = torch.nn.functional.normalize(states.float(), dim=1)
    if planned.end < row.num_tokens:
        pasts[row.id] = past.longer_by(units)
        return
    past = past.longer_by(units[:-1])
    pasts[row.id] = past.ending_in(units[-1])
    row.similarity = past.similarity(units[-1])


class _Past:
    """Hidden states of a row's tokens, of unit length. The last may still be given up.

    The room is shared by rows that have the beginning in common; each sees its own part of it.
    """

    def __init__(self, room: "_Room | None" = None, length: int = 0) -> None:
        self._room = room
        self._length = length
        self._newest: Tensor | None = None

    def longer_by(self, states: Tensor) -> "_Past":
        """With more tokens, [tokens, width]."""
        assert self._newest is None, "the newest token is settled before others follow"
        if not len(states):
            return self
        room = self._room
        if room is None or room.num_used != self._length:  # others have gone on from here
            room = _Room(None if room is None else room.states[: self._length])
        room.add(states)
        return _Past(room, self._length + len(states))

    def ending_in(self, state: Tensor) -> "_Past":
        """With a newest token, [width]."""
        past = _Past(self._room, self._length)
        past._newest = state
        return past

    def settled(self) -> "_Past":
        """With the newest token among the others."""
        newest = self._newest
        if newest is None:
            return self
        return _Past(self._room, self._length).longer_by(newest[None])

    def similarity(self, state: Tensor) -> float:
        """The largest cosine of a unit state [width] with those before it; 0 if there are none."""
        if self._room is None or not self._length:
            return 0.0
        return float(torch.mv(self._room.states[: self._length], state).max())


class _Room:
    """States one after the other, [tokens, width], in a tensor that doubles when it is full."""

    def __init__(self, begin: Tensor | None) -> None:
        self._table = begin
        self.num_used = 0 if begin is None else len(begin)

    @property
    def states(self) -> Tensor:
        """What has been added."""
        assert self._table is not None, "rooms are made to be filled"
        return self._table[: self.num_used]

    def add(self, states: Tensor) -> None:
        """Put more behind the others."""
        end = self.num_used + len(states)
        if self._table is None or end > len(self._table):
            grown = states.new_empty(max(2 * end, _FIRST_ROOM), states.shape[1])
            if self._table is not None:
                grown[: self.num_used] = self.states
            self._table = grown
        self._table[self.num_used : end] = states
        self.num_used = end
