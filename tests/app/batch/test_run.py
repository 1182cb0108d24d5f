"""A run over a real tiny engine: order, bounds, errors beside answers, and an end in the middle."""

import asyncio
import json
from contextlib import aclosing

import pytest

from app.batch.lines import LineReader
from app.batch.run import WINDOW, BatchRun
from app.bodies.body_parser import BodyParser
from app.errors import ServiceUnavailable
from decoding.registry import load_strategies

READER = LineReader(
    parser=BodyParser(load_strategies()), defaults={"max_new_tokens": 4}, seed=0, is_text=False
)


class Input:
    """Lines that count how many of them were taken."""

    def __init__(self, *bodies):
        self._bodies = bodies
        self.num_taken = 0

    async def __aiter__(self):
        for number, body in enumerate(self._bodies, 1):
            self.num_taken = number
            yield READER.read(number, json.dumps(body).encode())


def batch_run(service, max_in_flight=4, problem=None):
    return BatchRun(service.generator, max_in_flight=max_in_flight, engine_problem=lambda: problem)


async def answers(service, *bodies, **options):
    return [answer async for answer in batch_run(service, **options).answers(Input(*bodies))]


async def test_answers_come_in_the_order_of_the_lines_and_as_post_generate_gives_them(service):
    bodies = [
        {"text": "the sea", "strategy": "greedy", "max_new_tokens": 40},
        {"text": "a ship", "strategy": "beam", "num_beams": 2},
        {"text": "the", "strategy": "sample", "seed": 3, "top_logprobs": 1},
    ]
    got = await answers(service, *bodies)
    assert [answer.content["line"] for answer in got] == [1, 2, 3]
    for body, answer in zip(bodies, got, strict=True):
        expected = await service.generate(**{"max_new_tokens": 4} | body)
        assert answer.content["generated_text"] == expected["generated_text"]
        assert answer.content.keys() == expected.keys() - {"cached"} | {"line", "digest"}
        assert not answer.is_error


async def test_an_error_stands_beside_good_answers(service):
    got = await answers(
        service,
        {"text": "a", "id": "first"},
        {"text": 1, "id": "second"},
        {"text": "a", "max_new_tokens": 10_000},
        {"text": ["a", "a" * 500]},
        {"text": "a"},
    )
    assert [answer.is_error for answer in got] == [False, True, True, True, False]
    assert got[1].content["error"]["param"] == "text"
    assert (got[0].content["id"], got[1].content["id"]) == ("first", "second")
    assert got[2].content["error"]["code"] == "context_length_exceeded"
    assert [answer.num_tokens for answer in got] == [4, 0, 0, 4, 4]
    good, bad = got[3].content["results"]
    assert good["generated_text"].startswith("a")
    assert bad["error"]["param"] == "text.1"


async def test_no_more_requests_than_allowed_are_under_way(service):
    service.hold()
    lines = Input(*({"text": ["a", f"a{i}"]} for i in range(20)))
    async with aclosing(batch_run(service, max_in_flight=5).answers(lines)) as stream:
        first = asyncio.ensure_future(anext(stream))
        await service.held()
        await service.until(lambda: service.generator.num_in_flight == 4)
        assert lines.num_taken == 3  # the third waits for room
        service.release()
        await first
        rest = [answer async for answer in stream]
    assert len(rest) == 19


async def test_a_line_larger_than_the_bound_goes_alone(service):
    got = await answers(service, {"text": "a"}, {"text": ["a", "b", "c"]}, max_in_flight=1)
    assert len(got[1].content["results"]) == 3


async def test_answers_that_wait_for_an_earlier_one_are_bounded(service):
    slow = {"text": "a", "max_new_tokens": 100, "strategy": "greedy"}
    lines = Input(slow, *[{"text": 1}] * 100)
    async with aclosing(batch_run(service, max_in_flight=2).answers(lines)) as stream:
        service.hold(after=1)
        first = asyncio.ensure_future(anext(stream))
        await service.held()
        await service.until(lambda: lines.num_taken == 2 * WINDOW + 1)
        service.release()
        await first


async def test_closing_gives_up_what_is_under_way(service):
    lines = Input({"text": "a"}, {"text": "a b", "max_new_tokens": 100, "strategy": "greedy"})
    async with aclosing(batch_run(service).answers(lines)) as stream:
        await anext(stream)
    await service.until(service.is_idle)
    assert service.metric("cancellations_total") == 1


async def test_an_engine_that_has_failed_ends_the_run_before_the_line_is_answered(service):
    service.runner.failure = RuntimeError("broken")
    run = batch_run(service, problem="the engine has failed")
    with pytest.raises(ServiceUnavailable, match="the engine has failed"):
        async for _ in run.answers(Input({"text": "a"}, {"text": "b"})):
            pass


async def test_a_failure_to_read_the_input_ends_the_run(service):
    async def torn():
        yield READER.read(1, b'{"text": "a"}')
        raise OSError("the disk is gone")

    stream = batch_run(service).answers(torn())
    assert (await anext(stream)).content["line"] == 1
    with pytest.raises(OSError, match="the disk is gone"):
        await anext(stream)


async def test_half_a_surrogate_pair_is_escaped_and_other_letters_are_not(service):
    (answer,) = await answers(service, {"text": "a", "id": "\ud800é"})
    line = answer.encode()
    assert line.endswith(b"\n")
    assert "é".encode() in line
    assert json.loads(line)["id"] == "\ud800é"
