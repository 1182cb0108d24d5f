"""Best of several: the samples of `sample`, ranked by mean log-probability under the model."""

import pytest
import torch

from decoding.ask import Draw
from decoding.base import Hypothesis, StopCheck, Strategy, Task
from decoding.best_of import BestOf
from decoding.chooser import RowAsk, find_candidates
from decoding.errors import InvalidParameter
from decoding.sample import Sample
from tests.decoding.rows import FixedRow
from tests.decoding.toy_search import Searched, ToyModel, build_task


def _run(model: ToyModel, strategy: Strategy, task: Task) -> Searched:
    decoder = strategy.start(task)
    rows = [FixedRow()]
    decisions = []
    while rows:
        logits = torch.tensor([model.logprobs(row.generated_ids) for row in rows])
        decision = decoder.advance(
            rows, find_candidates(logits, [RowAsk(row, decoder.ask) for row in rows])
        )
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


def _mean(hypothesis: Hypothesis) -> float:
    return sum(hypothesis.logprobs) / len(hypothesis.logprobs)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_returned", [1, 2, 5])
def test_the_best_of_the_samples_that_sample_draws_are_returned(
    seed: int, num_returned: int
) -> None:
    model, task = ToyModel(seed), build_task(7, 0, seed=seed)
    strategy = BestOf(best_of=5, num_return_sequences=num_returned, temperature=1.7, min_p=0.01)
    drawn = _run(model, Sample(num_return_sequences=5, temperature=1.7, min_p=0.01), task)
    best = sorted(drawn.results, key=_mean, reverse=True)[:num_returned]
    answered = _run(model, strategy, task).results
    assert [each.token_ids for each in answered] == [each.token_ids for each in best]
    assert [each.finish_reason for each in answered] == [each.finish_reason for each in best]
    assert [each.score for each in answered] == pytest.approx([_mean(each) for each in best])


def test_ranking_decides_some_answer() -> None:
    tasks = [build_task(7, 0, seed=seed) for seed in range(8)]
    firsts = [_run(ToyModel(1), Sample(), task).results[0].token_ids for task in tasks]
    bests = [_run(ToyModel(1), BestOf(), task).results[0].token_ids for task in tasks]
    assert firsts != bests


def test_everything_is_streamed_at_the_end_under_its_rank() -> None:
    run = _run(ToyModel(2), BestOf(best_of=4, num_return_sequences=2), build_task(9, 0, seed=5))
    assert all(not decision.emissions for decision in run.decisions[:-1])
    assert [each.index for each in run.decisions[-1].emissions] == [0, 1]
    for index, result in enumerate(run.results):
        assert run.streamed(index) == result.token_ids


def _after(length: int) -> StopCheck:
    return lambda generated_ids: len(generated_ids) == length


def test_a_stop_ends_each_sample() -> None:
    run = _run(ToyModel(2), BestOf(best_of=3), build_task(9, stop=_after(4)))
    assert [len(each.token_ids) for each in run.results] == [4]


def test_more_sequences_than_samples_are_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="3 sequences cannot come from 2 samples") as refused:
        BestOf(best_of=2, num_return_sequences=3)
    assert refused.value.field == "num_return_sequences"


def test_as_many_rows_are_announced_as_samples_are_drawn() -> None:
    strategy = BestOf(best_of=6, num_return_sequences=2)
    assert (strategy.num_rows, strategy.num_results) == (6, 2)
    ask = strategy.start(build_task(3, seed=8)).ask
    assert isinstance(ask, Draw)
    assert (ask.count, ask.seed, ask.processing.top_k) == (6, 8, 50)
