"""Rows side by side: each goes on until it finishes, and the request is done when the last is."""

from decoding.ask import Draw, MostLikely
from decoding.base import Candidate, Decision, FinishReason, Task
from decoding.independent import IndependentDecoder
from decoding.params import Processing
from tests.decoding.rows import FixedRow, candidate

PLAIN = Processing()
END = 0


def _task(max_new_tokens: int = 3) -> Task:
    return Task(max_new_tokens=max_new_tokens, seed=4, eos_token_ids=frozenset({END}))


def _rows_after(rows: list[FixedRow], decision: Decision) -> list[FixedRow]:
    return [
        FixedRow(
            index=each.index,
            prompt_ids=rows[each.parent].prompt_ids,
            generated_ids=(*rows[each.parent].generated_ids, each.token_id),
            logprobs=(*rows[each.parent].logprobs, each.logprob),
        )
        for each in decision.live
    ]


def _found(*token_ids: int) -> list[list[Candidate]]:
    return [[candidate(token_id, -token_id / 10)] for token_id in token_ids]


def test_a_row_appends_its_candidate_and_streams_it_at_once() -> None:
    decoder = IndependentDecoder(ask=MostLikely(PLAIN), task=_task())
    decision = decoder.advance([FixedRow()], _found(7))
    (live,) = decision.live
    assert (live.parent, live.token_id, live.logprob, live.index) == (0, 7, -0.7, 0)
    (emission,) = decision.emissions
    assert (emission.index, emission.token_ids, emission.logprobs) == (0, (7,), (-0.7,))
    assert decision.results == ()


def test_the_prompts_row_forks_into_as_many_as_were_drawn_and_then_each_draws_one() -> None:
    decoder = IndependentDecoder(ask=Draw(PLAIN, seed=4, count=3), task=_task())
    assert decoder.ask.count == 3
    decision = decoder.advance([FixedRow()], [[candidate(5), candidate(6), candidate(5)]])
    assert [(each.parent, each.token_id, each.index) for each in decision.live] == [
        (0, 5, 0),
        (0, 6, 1),
        (0, 5, 2),
    ]
    assert decoder.ask == Draw(PLAIN, seed=4, count=1)


def test_rows_that_finish_leave_and_the_others_keep_their_index() -> None:
    decoder = IndependentDecoder(ask=Draw(PLAIN, seed=4, count=3), task=_task())
    rows = [FixedRow()]
    decision = decoder.advance(rows, [[candidate(5), candidate(END), candidate(6)]])
    assert [each.index for each in decision.live] == [0, 2]
    assert decision.results == (), "there is no answer before the last row is done"
    rows = _rows_after(rows, decision)
    decision = decoder.advance(rows, _found(END, 8))
    assert [(each.parent, each.index) for each in decision.live] == [(1, 2)]
    decision = decoder.advance(_rows_after(rows, decision), _found(9))
    assert decision.live == ()
    assert [each.token_ids for each in decision.results] == [(5, END), (END,), (6, 8, 9)]
    assert [each.finish_reason for each in decision.results] == [
        FinishReason.EOS,
        FinishReason.EOS,
        FinishReason.LENGTH,
    ]
    assert decision.results[2].logprobs == (-1.0, -0.8, -0.9)
    assert all(each.score is None for each in decision.results)


def test_every_token_of_an_answer_was_streamed() -> None:
    decoder = IndependentDecoder(ask=MostLikely(PLAIN), task=_task())
    rows, streamed = [FixedRow()], []
    for token_id in (3, 4, 5):
        decision = decoder.advance(rows, _found(token_id))
        streamed += [token for each in decision.emissions for token in each.token_ids]
        rows = _rows_after(rows, decision)
    assert tuple(streamed) == decision.results[0].token_ids == (3, 4, 5)
