"""The bounded pool for work on text."""

import asyncio
import threading

import pytest

from app.errors import TextQueueFull
from app.text.executor import TextExecutor


@pytest.fixture
def executor():
    executor = TextExecutor(num_threads=1, max_pending=2)
    yield executor
    executor.close()


async def test_work_runs_on_another_thread(executor):
    assert (await executor.run(threading.current_thread)).name.startswith("text")


async def test_an_error_reaches_the_caller(executor):
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 / 0)


async def test_work_beyond_the_bound_is_refused_at_once(executor):
    go = threading.Event()
    pending = [asyncio.create_task(executor.run(go.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TextQueueFull):
        await executor.run(int)
    go.set()
    await asyncio.gather(*pending)
    assert await executor.run(int) == 0


async def test_a_caller_that_goes_frees_its_place_only_when_the_thread_is_free(executor):
    started, go = threading.Event(), threading.Event()

    def work():
        started.set()
        go.wait()

    running = asyncio.create_task(executor.run(work))
    await asyncio.to_thread(started.wait)
    running.cancel()
    waiting = asyncio.create_task(executor.run(int))
    await asyncio.sleep(0)
    with pytest.raises(TextQueueFull):
        await executor.run(int)
    go.set()
    assert await waiting == 0


async def test_work_that_waits_is_dropped_with_its_caller(executor):
    go = threading.Event()
    running = asyncio.create_task(executor.run(go.wait))
    await asyncio.sleep(0)
    ran = threading.Event()
    waiting = asyncio.create_task(executor.run(ran.set))
    await asyncio.sleep(0)
    waiting.cancel()
    go.set()
    await running
    await executor.run(int)
    assert not ran.is_set()


async def test_a_closed_pool_refuses_work(executor):
    executor.close()
    for _ in range(5):
        with pytest.raises(TextQueueFull):
            await executor.run(int)
