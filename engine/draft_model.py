"""A second, smaller model that guesses the next tokens of rows: draft-model speculation.

Leviathan et al. 2023, arXiv:2211.17192, with greedy guesses as in transformers' assisted
generation. A guess is kept if the served model chooses the same (`engine.speculate`), so the second
model decides how fast an answer comes and nothing else. It runs over a cache of its own, all rows
of a step together: one call computes what was decided since it was asked last and makes the first
guess, each further guess is one more call. The scheduler calls it through `drafting.Guesser`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from engine.drafting import Wish
from engine.plan import Plan, PlannedRow
from engine.runner import Runner
from engine.sequence import Group
from engine.sequence import Sequence as Row


@dataclass(slots=True, eq=False)
class _Text:
    """What the second model has of a row: a row of its own, whose drafts are the latest guesses."""

    group: Group
    own: Row
    is_readable: bool = True  # whether the second model has all of its tokens

    @property
    def is_behind(self) -> bool:
        """Whether a part of its prompt is still to be computed."""
        return self.own.num_computed < len(self.own.prompt_ids)

    def follow(self, new: Sequence[int]) -> None:
        """Take over what was decided; guesses that were right need not be computed again."""
        pairs = zip(new, self.own.draft_ids, strict=False)
        num_right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.own.num_computed = min(self.own.num_computed, self.own.num_tokens + num_right)
        self.own.generated_ids += new
        self.own.draft_ids = []


@dataclass(frozen=True, slots=True)
class _Aim:
    """A text to guess on in this step, and how far at most."""

    text: _Text
    num_guesses: int

    @property
    def is_open(self) -> bool:
        """Whether another guess is wanted: nothing follows the end of a text."""
        guesses, ends = self.text.own.draft_ids, self.text.group.request.eos_token_ids
        return 0 < len(guesses) < self.num_guesses and guesses[-1] not in ends


class DraftModel:
    """Guesses with its runner and keeps its place in each row's text.

    Written to by the scheduler's calls only. A row that its cache has no room for is not guessed.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        max_step_tokens: int,
        vocab_size: int,
        clock: Callable[[], float],
    ) -> None:
        """Take a loaded runner.

        Args:
            runner: the second model's; its token ids mean what the served model's do.
            max_step_tokens: computed in one call, at most; no fewer than rows of a step.
            vocab_size: the served model's: no other tokens are guessed.
            clock: in seconds.
        """
        self._runner = runner
        self._max_step_tokens = max_step_tokens
        self._num_guessable = min(vocab_size, runner.vocab_size)
        self._clock = clock
        self._texts: dict[int, _Text] = {}  # by the id of the served model's row
        self.seconds = 0.0  # spent guessing so far

    def guess(self, wishes: Sequence[Wish]) -> list[list[int]]:
        """Tokens for each wish, in order; none where the text is not computed yet or has no room.

        Prompts are computed as far as a step's budget goes; the rest follows with later steps.
        """
        started = self._clock()
        aims = list(self._aims(wishes))
        self._compute(list(self._news(aims)))
        while aims := [aim for aim in aims if aim.is_open]:
            self._compute([_newest_guess(aim.text.own) for aim in aims])
        self.seconds += self._clock() - started
        texts = [self._texts.get(wish.row.id) for wish in wishes]
        return [[] if text is None else text.own.draft_ids.copy() for text in texts]

    def release(self, sequence_id: int) -> None:
        """Forget a row that has ended or lost its room; unknown ids are fine."""
        if self._texts.pop(sequence_id, None) is not None:
            self._runner.cache.release(sequence_id)

    def _aims(self, wishes: Iterable[Wish]) -> Iterator[_Aim]:
        """The texts that may be guessed on, taken to where their rows are now.

        Of a request's rows the first computes the prompt; the others then find it in the cache.
        """
        behind = {id(text.group) for text in self._texts.values() if text.is_behind}
        for wish in wishes:
            text = self._texts.get(wish.row.id)
            if text is None:
                if id(wish.group) in behind:
                    continue
                text = self._open(wish)
                if text.is_behind:
                    behind.add(id(wish.group))
            new = wish.row.generated_ids[len(text.own.generated_ids) :]
            text.is_readable &= self._can_read(new)
            text.follow(new)
            room = self._runner.context_length - text.own.num_tokens + 1  # none after the last
            if text.is_readable and room > 0:
                yield _Aim(text, min(wish.num_tokens, room))

    def _open(self, wish: Wish) -> _Text:
        row = wish.row
        own = Row(id=row.id, prompt_ids=row.prompt_ids, generated_ids=row.generated_ids.copy())
        salt = wish.group.request.cache_salt
        own.num_computed = self._runner.cache.match_prefix(own.id, own.token_ids, salt)
        text = _Text(wish.group, own, is_readable=self._can_read(own.token_ids))
        self._texts[row.id] = text
        return text

    def _can_read(self, token_ids: Sequence[int]) -> bool:
        return all(token_id < self._runner.vocab_size for token_id in token_ids)

    def _news(self, aims: Iterable[_Aim]) -> Iterator[PlannedRow]:
        """What is to be computed of the texts before the first guess, as far as budget and room go.

        Room for the guesses is reserved as well.
        """
        budget = self._max_step_tokens
        for aim in aims:
            own = aim.text.own
            end = own.num_computed + min(own.num_remaining, budget)
            is_whole = end == own.num_tokens
            if not is_whole:
                end -= end % self._runner.cache.alignment
            needed = end + (aim.num_guesses - 1 if is_whole else 0)
            if end > own.num_computed and self._runner.cache.reserve(
                own.id, own.num_computed, needed
            ):
                budget -= end - own.num_computed
                yield PlannedRow(own, own.num_computed, end, num_logits=int(is_whole))

    def _compute(self, rows: Sequence[PlannedRow]) -> None:
        """Compute planned rows and write down the guess after each whose end they reach."""
        if not rows:
            return
        said = self._runner.forward(Plan(rows=tuple(rows), stepping=()))
        for row in rows:
            own = row.sequence
            own.num_computed = row.end
            num_certain = min(row.end, own.num_tokens)  # a guess is nothing to share
            self._runner.cache.mark_computed(own.id, num_certain, own.tokens_between)
        best = said.values[:, : self._num_guessable].argmax(dim=1).tolist()
        whole = [row.sequence for row in rows if row.num_logits]
        for own, token_id in zip(whole, best, strict=True):
            own.draft_ids.append(token_id)


def _newest_guess(own: Row) -> PlannedRow:
    """The newest guess as a step of its own; its room is reserved."""
    end = own.num_tokens + len(own.draft_ids)
    return PlannedRow(own, end - 1, end, num_logits=1)
