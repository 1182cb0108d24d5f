"""How long anybody waits, and what goes on without them: patience and backlog."""

import asyncio
import time

import pytest

from app.generation.shared_cache.backlog import Backlog
from app.generation.shared_cache.patience import Patience

FOREVER = 3600.0


@pytest.fixture
async def patience():
    patience = Patience(longest_seconds=FOREVER)
    yield patience
    await patience.close()


async def test_answer_and_failure_come_through(patience):
    async def answer():
        return 7

    async def fail():
        raise KeyError("no")

    assert await patience.wait(answer(), FOREVER) == 7
    with pytest.raises(KeyError):
        await patience.wait(fail(), FOREVER)
    assert patience.num_calls == 0


async def test_call_that_takes_longer_goes_on_by_itself_to_its_end(patience):
    may_end, has_ended = asyncio.Event(), asyncio.Event()

    async def call():
        await may_end.wait()
        has_ended.set()

    with pytest.raises(TimeoutError, match="no answer within 1 ms"):
        await patience.wait(call(), 0.001)
    assert patience.num_calls == 1
    may_end.set()
    await has_ended.wait()
    await asyncio.sleep(0)
    assert patience.num_calls == 0


async def test_caller_that_is_cancelled_does_not_take_the_call_along(patience):
    has_begun, may_end, has_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call():
        has_begun.set()
        await may_end.wait()
        has_ended.set()

    caller = asyncio.create_task(patience.wait(call(), FOREVER))
    await has_begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    may_end.set()
    await has_ended.wait()


async def test_reply_that_lay_in_the_socket_while_the_loop_was_busy_counts(patience):
    """Not Redis was late but we: a busy engine must not make the cache useless."""
    server_writers = []

    async def serve(reader, writer):
        server_writers.append(writer)
        writer.write(await reader.readline())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

    async def call():
        writer.write(b"hello\n")
        line = await reader.readline()
        return line.decode()

    waiting = asyncio.create_task(patience.wait(call(), 0.05))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251  (the busy loop that this is about)
    assert await waiting == "hello\n"
    for each in (writer, *server_writers):
        each.close()
        await each.wait_closed()
    server.close()
    await server.wait_closed()


async def test_call_that_never_ends_is_ended():
    patience = Patience(longest_seconds=0.01)
    call = asyncio.create_task(patience.wait(asyncio.Event().wait(), FOREVER))
    with pytest.raises(TimeoutError):
        await call
    assert patience.num_calls == 0


async def test_closing_ends_calls_and_tells_who_waits(patience):
    waiting = asyncio.create_task(patience.wait(asyncio.Event().wait(), FOREVER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await patience.close()
    with pytest.raises(TimeoutError):
        await waiting


async def test_backlog_does_its_work_in_order_and_refuses_what_is_too_much():
    backlog, done = Backlog(max_pending=2), []
    may_go_on = asyncio.Event()

    def work(name):
        async def run():
            await may_go_on.wait()
            done.append(name)

        return run

    assert backlog.add(work("first"))
    await asyncio.sleep(0)  # it is being done now
    assert backlog.add(work("second"))
    assert backlog.add(work("third"))
    assert not backlog.add(work("fourth"))
    assert backlog.num_pending == 2
    may_go_on.set()
    await backlog.settled()
    assert done == ["first", "second", "third"]
    await backlog.close(FOREVER)


async def test_closing_a_backlog_finishes_what_can_be_finished():
    backlog, done = Backlog(max_pending=9), []

    async def work():
        await asyncio.sleep(0)
        done.append(1)

    for _ in range(9):
        backlog.add(work)
    await backlog.close(FOREVER)
    assert len(done) == 9
    assert not backlog.add(work)


async def test_closing_a_backlog_drops_what_takes_too_long():
    backlog = Backlog(max_pending=9)
    backlog.add(asyncio.Event().wait)
    backlog.add(asyncio.Event().wait)
    await asyncio.sleep(0)
    await backlog.close(0.001)
    await backlog.close(0.001)


async def test_work_that_fails_does_not_end_the_backlog(caplog):
    backlog, done = Backlog(max_pending=9), asyncio.Event()

    async def fail():
        raise KeyError("a mistake")

    async def work():
        done.set()

    backlog.add(fail)
    backlog.add(work)
    await done.wait()
    assert "a mistake" in caplog.text
    await backlog.close(FOREVER)
