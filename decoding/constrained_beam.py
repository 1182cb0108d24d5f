"""The `constrained_beam` strategy: beam search for texts that contain given words and phrases.

Lexically constrained decoding: Anderson et al. 2017, arXiv:1612.00576, with the dynamic beam
allocation of Post and Vilar 2018, arXiv:1804.06609, as `transformers` had it. Besides the best
candidates of all beams, every token of a phrase is a candidate of every beam; candidates are put
into banks by how many tokens they still miss, and the beams are filled from the banks in turn, the
one that misses least first. A text may end only when it holds everything, and a beam that could
not hold everything any more within its length is given up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated, ClassVar

from annotated_types import Len
from typing_extensions import Doc

from decoding.ask import Best
from decoding.base import Candidate, Decision, DecodingRow, FinishReason, Task
from decoding.beam_search import BeamSearch, Extension, descending_score
from decoding.beam_strategy import BeamStrategy
from decoding.beam_stream import BeamStream
from decoding.considered import Outcome
from decoding.errors import InvalidParameter
from decoding.params import Processing
from decoding.phrase_progress import Phrases, PhraseTracker, Progress

MAX_WORDS = 16
MAX_OPTIONS = 8  # of which one must occur
MAX_CHARACTERS = 200  # of a word or phrase

ForceWords = Annotated[
    tuple[str | tuple[str, ...], ...],
    Len(0, MAX_WORDS),
    Doc("What the text must contain: words or phrases, and lists of which one must occur."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstrainedBeam(BeamStrategy):
    """Search for the most likely sequences that contain every one of `force_words`."""

    force_words: ForceWords = ()

    name: ClassVar[str] = "constrained_beam"
    is_deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        BeamStrategy.__post_init__(self)
        for entry in self.force_words:
            words = (entry,) if isinstance(entry, str) else entry
            if not words or not all(words):
                raise InvalidParameter("force_words", "holds an empty string or list; leave it out")
            if len(words) > MAX_OPTIONS or max(map(len, words)) > MAX_CHARACTERS:
                raise InvalidParameter(
                    "force_words",
                    f"holds more than {MAX_OPTIONS} words in a list, or one of more than "
                    f"{MAX_CHARACTERS} characters; give fewer and shorter ones",
                )

    def check_task(self, task: Task) -> None:
        """Refuse words that do not fit into the new tokens.

        Raises:
            InvalidParameter: with the numbers.
        """
        num_missing = self._tracker(task).start.num_missing
        if num_missing > task.max_new_tokens:
            raise InvalidParameter(
                "force_words",
                f"take {num_missing} tokens one after the other, and there may be "
                f"{task.max_new_tokens}; "
                "raise max_new_tokens, or ask for fewer",
            )

    def start(self, task: Task) -> "ConstrainedBeamDecoder":
        """Begin decoding one request that `check_task` has let pass."""
        self.check_task(task)
        return ConstrainedBeamDecoder(self, task, self._tracker(task))

    def _tracker(self, task: Task) -> PhraseTracker:
        return PhraseTracker([_phrases(entry, task) for entry in self.force_words])


class ConstrainedBeamDecoder:
    """The search of one request. Only `advance` writes its state."""

    def __init__(self, strategy: ConstrainedBeam, task: Task, tracker: PhraseTracker) -> None:
        self._task = task
        self._width = strategy.num_beams
        self._tracker = tracker
        self._progress: list[Progress] = [tracker.start]  # of the live rows, in row order
        self._search = BeamSearch(strategy, task, width=strategy.num_beams)
        self._stream = BeamStream(num_results=strategy.num_results)
        self._ask = Best(Processing(), count=self._search.num_kept, also=tracker.token_ids)

    @property
    def ask(self) -> Best:
        """Each beam's best candidates, and every token that a phrase holds."""
        return self._ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Extend the beams, fill the banks, retire what holds everything."""
        search = self._search
        found = [_without_repeats(candidates) for candidates in found]
        steps = list(self._steps(search.extend(rows, search.reaches(found))))
        if not steps:
            raise InvalidParameter(
                "force_words", "the request's other rules leave no way to them; change one of both"
            )
        best, others = self._ranked(steps)
        search.retire(step.extension for step in best)
        search.give_up(step.extension for step in others if step.extension.finish_reason)
        going_on = [step for step in steps if step.extension.finish_reason is None]
        chosen = _allocate(going_on, self._width)
        live = search.go_on([step.extension for step in chosen])
        if live:
            self._progress = [step.progress for step in chosen]
        return self._stream.decision(live, search.finished, search.verdicts)

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """What has ended, which holds everything; then the live beams, the nearest to it first."""
        live = zip(self._progress, self._search.so_far(rows), strict=True)
        ranked = sorted(live, key=lambda each: (each[0].num_missing, descending_score(each[1])))
        return self._stream.end([*self._search.finished, *(beam for _, beam in ranked)])

    def _steps(self, extensions: Iterable[Extension]) -> Iterable["_Step"]:
        """Those that can still hold everything, or do so where they end.

        A stop string cuts the text before it, so what is held must have been so before it came.
        """
        for extension in extensions:
            ids = extension.generated_ids
            before = self._progress[extension.parent]
            progress = self._tracker.after(before, ids)
            is_cut = extension.finish_reason is FinishReason.STOP and not before.is_complete
            has_ended = extension.finish_reason not in (None, FinishReason.LENGTH)
            room = 0 if has_ended else self._task.max_new_tokens - len(ids)
            if is_cut or progress.num_missing > room:
                self._search.give_up([extension], Outcome.WORDS_MISSING)
            else:
                yield _Step(extension, progress)

    def _ranked(self, steps: Sequence["_Step"]) -> tuple[list["_Step"], list["_Step"]]:
        """As many as there are beams, and the others: only the first may finish, as in beam search.

        Those that are not complete do not count: they stand for no answer yet.
        """
        complete = [step for step in steps if step.progress.is_complete]
        complete.sort(key=lambda step: -step.extension.score)
        return complete[: self._width], complete[self._width :]


@dataclass(frozen=True, slots=True)
class _Step:
    """An extended beam and what it has met."""

    extension: Extension
    progress: Progress


def _allocate(steps: Sequence[_Step], width: int) -> list[_Step]:
    """The beams that go on, best score first: from the banks in turn, each its best first.

    The first beam is one that misses the fewest tokens, so what is missing is found in time.
    """
    best_first = sorted(steps, key=lambda step: -step.extension.score)
    ranks: dict[int, Iterable[int]] = {}
    in_turn = []
    for step in best_first:
        missing = step.progress.num_missing
        rank = next(iter(ranks.setdefault(missing, count())))
        in_turn.append((rank, missing, step))
    in_turn.sort(key=lambda entry: entry[:2])
    chosen = [step for _, _, step in in_turn[:width]]
    return sorted(chosen, key=lambda step: -step.extension.score)


def _without_repeats(candidates: Sequence[Candidate]) -> list[Candidate]:
    """A token of a phrase may be among the best as well."""
    return list({each.token_id: each for each in candidates}.values())


def _phrases(entry: str | tuple[str, ...], task: Task) -> Phrases:
    words = (entry,) if isinstance(entry, str) else entry
    phrases = {phrase for word in words for phrase in task.phrases_of(word)}
    if not phrases:
        raise InvalidParameter("force_words", "holds a word without tokens; leave it out")
    return tuple(sorted(phrases))
