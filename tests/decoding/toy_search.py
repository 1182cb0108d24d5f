"""Beam search on a toy model: a table of random log-probabilities for every beginning.

Nothing but the search is exercised: no tensors, no engine.
"""

import math
import random
from dataclasses import dataclass

from decoding.base import Candidate, Decision, Hypothesis, StopCheck, Task
from decoding.beam import Beam
from tests.decoding.rows import FixedRow


@dataclass(frozen=True)
class ToyModel:
    """Log-probabilities of the next token for every beginning, drawn from a seed."""

    seed: int
    vocab_size: int = 5
    spread: float = 1.5

    def logprobs(self, generated_ids: tuple[int, ...]) -> list[float]:
        """One for each token."""
        draw = random.Random(repr((self.seed, generated_ids)))
        logits = [draw.gauss(0, self.spread) for _ in range(self.vocab_size)]
        total = math.log(sum(math.exp(logit) for logit in logits))
        return [logit - total for logit in logits]

    def logprob(self, generated_ids: tuple[int, ...]) -> float:
        """Of a whole sequence."""
        steps = range(len(generated_ids))
        return sum(self.logprobs(generated_ids[:at])[generated_ids[at]] for at in steps)


@dataclass(frozen=True)
class Searched:
    """A finished search: its answer and what it said on the way."""

    decisions: list[Decision]

    @property
    def results(self) -> tuple[Hypothesis, ...]:
        """The answer."""
        return self.decisions[-1].results

    def streamed(self, index: int = 0, *, before_end: bool = False) -> tuple[int, ...]:
        """Tokens emitted of a sequence."""
        decisions = self.decisions[:-1] if before_end else self.decisions
        emissions = [each for decision in decisions for each in decision.emissions]
        return tuple(t for each in emissions if each.index == index for t in each.token_ids)


def search(model: ToyModel, beam: Beam, task: Task) -> Searched:
    """Drive the decoder as the engine does, with the best candidates of each row."""
    decoder = beam.start(task)
    rows = [FixedRow()]
    decisions = []
    while rows:
        count = decoder.ask.count
        decision = decoder.advance(rows, [_best(model, row, count) for row in rows])
        assert len(decision.live) <= beam.num_beams
        decisions.append(decision)
        rows = [
            FixedRow(
                index=each.index,
                generated_ids=(*rows[each.parent].generated_ids, each.token_id),
                logprobs=(*rows[each.parent].logprobs, each.logprob),
            )
            for each in decision.live
        ]
    return Searched(decisions)


def _best(model: ToyModel, row: FixedRow, count: int) -> list[Candidate]:
    logprobs = model.logprobs(row.generated_ids)
    best = sorted(range(len(logprobs)), key=lambda token: -logprobs[token])
    return [Candidate(token, logprobs[token], logprobs[token]) for token in best[:count]]


def build_task(max_new_tokens: int, *end_tokens: int, stop: StopCheck | None = None) -> Task:
    """What the search must know of its request."""
    return Task(
        max_new_tokens=max_new_tokens, seed=0, eos_token_ids=frozenset(end_tokens), stop=stop
    )
