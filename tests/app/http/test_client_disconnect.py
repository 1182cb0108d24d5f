"""A client that hangs up frees what it held, at every stage and in every form of the request."""

import asyncio

import pytest

from app.errors import ClientDisconnected
from app.http.disconnect import run_until_disconnect

LONG = {"text": "the quick brown", "seed": 1, "max_new_tokens": 100}


@pytest.mark.parametrize("path", ["/generate", "/generate/stream", "/generate_cached"])
@pytest.mark.parametrize("strategy", ["sample", "beam"])
async def test_hanging_up_frees_the_sequences(service, path, strategy):
    service.hold()
    async with service.call(path, LONG | {"strategy": strategy}) as call:
        await service.held()
        call.hang_up()
        await call.task
    assert service.generator.num_in_flight == 0
    service.release()
    await service.until(service.is_idle)
    assert service.worker.stats.num_cancellations == 1
    assert service.worker.stats.num_cached_tokens == 0


async def test_hanging_up_on_a_list_frees_all_its_texts(service):
    service.hold()
    async with service.call("/generate", LONG | {"text": ["the", "dog", "fox"]}) as call:
        await service.held()
        await service.until(lambda: service.metric("response_cache_misses_total") == 3)
        call.hang_up()
        await call.task
    service.release()
    await service.until(service.is_idle)
    assert service.worker.stats.num_cancellations == 3


async def test_hanging_up_in_the_queue_frees_the_place(service):
    service.hold()
    async with service.call("/generate", LONG) as running:
        await service.held()
        async with service.call("/generate", LONG | {"text": "fox"}) as waiting:
            await service.until(lambda: service.metric("response_cache_misses_total") == 2)
            waiting.hang_up()
        assert service.generator.num_in_flight == 1
        service.release()
        await running.task
    assert running.status == 200
    await service.until(service.is_idle)


async def test_a_client_that_has_gone_is_answered_with_499(service):
    service.hold()
    async with service.call("/generate", LONG) as call:
        await service.held()
        call.hang_up()
        await call.task
        service.release()
    assert call.status == 499


async def test_work_is_cancelled_and_has_ended_before_the_caller_goes_on():
    steps = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("ended")

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnected):
        await run_until_disconnect(receive, work())
    assert steps == ["ended"]


async def test_work_that_ends_first_gives_its_result_or_its_error():
    never = asyncio.Event()

    async def succeed():
        return 5

    async def fail():
        raise ValueError("no")

    assert await run_until_disconnect(never.wait, succeed()) == 5
    with pytest.raises(ValueError, match="no"):
        await run_until_disconnect(never.wait, fail())


async def test_a_disconnect_that_comes_with_the_result_harms_nothing_later(monkeypatch):
    monkeypatch.setattr("app.http.disconnect.PATIENCE_SECONDS", 0.0)
    watched, both = asyncio.Event(), asyncio.Event()

    async def receive():
        watched.set()
        await both.wait()
        return {"type": "http.disconnect"}

    async def work():
        await watched.wait()
        await both.wait()
        return 5

    caller = asyncio.create_task(run_until_disconnect(receive, work()))
    await watched.wait()
    both.set()
    outcome = await asyncio.gather(caller, return_exceptions=True)
    assert outcome == [5] or isinstance(outcome[0], ClientDisconnected)
    await asyncio.sleep(0)  # whatever was still on its way has come
    assert not caller.cancelled()


async def test_cancelling_the_caller_cancels_the_work():
    started, never, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        try:
            await never.wait()
        finally:
            ended.set()

    caller = asyncio.create_task(run_until_disconnect(never.wait, work()))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
