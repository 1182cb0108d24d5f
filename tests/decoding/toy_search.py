"""Beam search on a toy model: a table of random log-probabilities for every beginning.

Nothing but the search is exercised: no engine, and tensors only where tokens are drawn.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from decoding.ask import Ask, Best
from decoding.base import Candidate, Decision, Hypothesis, StopCheck, Task
from decoding.beam_strategy import BeamStrategy
from decoding.chooser import RowAsk, find_candidates
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


def search(model: ToyModel, beam: BeamStrategy, task: Task) -> Searched:
    """Drive the decoder as the engine does, with the candidates it asks for."""
    decoder = beam.start(task)
    rows = [FixedRow()]
    decisions = []
    while rows:
        decision = decoder.advance(rows, _find(model, rows, decoder.ask))
        assert len(decision.live) <= beam.num_rows
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


def _find(model: ToyModel, rows: list[FixedRow], ask: Ask) -> Sequence[Sequence[Candidate]]:
    if isinstance(ask, Best):
        return [_best(model, row, ask) for row in rows]
    logits = torch.tensor([model.logprobs(row.generated_ids) for row in rows])
    return find_candidates(logits, [RowAsk(row, ask) for row in rows])


def _best(model: ToyModel, row: FixedRow, ask: Best) -> list[Candidate]:
    logprobs = model.logprobs(row.generated_ids)
    best = sorted(range(len(logprobs)), key=lambda token: -logprobs[token])
    wanted = (*best[: ask.count], *ask.also)
    return [Candidate(token, logprobs[token], logprobs[token]) for token in wanted]


def build_task(
    max_new_tokens: int, *end_tokens: int, stop: StopCheck | None = None, seed: int = 0
) -> Task:
    """What the search must know of its request."""
    return Task(
        max_new_tokens=max_new_tokens, seed=seed, eos_token_ids=frozenset(end_tokens), stop=stop
    )
