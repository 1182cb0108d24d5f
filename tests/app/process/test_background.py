"""Slow work runs beside the loop; what it returns or raises arrives on the loop."""

import asyncio
import threading

import pytest

from app.process.background import run_in_thread


async def test_result_arrives_from_another_thread():
    assert await run_in_thread(threading.get_ident, name="work") != threading.get_ident()


async def test_error_arrives_as_it_was_raised():
    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await run_in_thread(fail, name="work")


async def test_loop_answers_while_work_goes_on():
    go_on = threading.Event()
    future = run_in_thread(go_on.wait, name="work")
    await asyncio.sleep(0)
    assert not future.done()
    go_on.set()
    assert await future is True


async def test_abandoned_work_disturbs_nobody():
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait()
        ended.set()

    future = run_in_thread(work, name="work")
    future.cancel()
    go_on.set()
    await run_in_thread(ended.wait, name="wait")
    assert future.cancelled()


def test_work_that_outlives_its_loop_ends_quietly():
    go_on = threading.Event()

    async def leave_it() -> None:
        run_in_thread(go_on.wait, name="left-behind")

    asyncio.run(leave_it())
    thread = next(thread for thread in threading.enumerate() if thread.name == "left-behind")
    go_on.set()
    thread.join()
