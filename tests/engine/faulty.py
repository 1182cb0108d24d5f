"""A strategy of another package that does one thing wrong, and greedy decoding otherwise right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import Ask
from decoding.base import Candidate, Decision, Decoder, DecodingRow, Task
from decoding.greedy import Greedy


def _keep_ask(ask: Ask, _: int) -> Ask:
    return ask


def _keep_decision(decision: Decision, _: int) -> Decision:
    return decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulty:
    """Greedy whose asks and decisions pass through functions, with the number of the step."""

    change_ask: Callable[[Ask, int], Ask] = _keep_ask
    change_decision: Callable[[Decision, int], Decision] = _keep_decision
    starts: bool = True

    name: ClassVar[str] = "faulty"
    is_deterministic: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        """One row, it says."""
        return 1

    @property
    def num_results(self) -> int:
        """One sequence, it says."""
        return 1

    def start(self, task: Task) -> "FaultyDecoder":
        """Begin decoding one request."""
        if not self.starts:
            raise ZeroDivisionError
        return FaultyDecoder(self, Greedy().start(task))


class FaultyDecoder:
    """Passes everything through the strategy's functions."""

    def __init__(self, strategy: Faulty, inner: Decoder) -> None:
        self._strategy = strategy
        self._inner = inner
        self._num_steps = 0

    @property
    def ask(self) -> Ask:
        """What the inner decoder asks, changed."""
        return self._strategy.change_ask(self._inner.ask, self._num_steps)

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """What the inner decoder decides, changed."""
        decision = self._inner.advance(rows, found)
        self._num_steps += 1
        return self._strategy.change_decision(decision, self._num_steps)
