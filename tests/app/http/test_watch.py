"""A watch calls out after silence, again and again, and not while something happens."""

import asyncio

from app.http.watch import Watch


async def test_silence_is_noticed_again_and_again_until_it_is_stopped():
    calls = []
    watch = Watch(0.02, lambda: calls.append(None))
    await asyncio.sleep(0.15)
    watch.stop()
    noticed = len(calls)
    assert noticed >= 2
    await asyncio.sleep(0.06)
    assert len(calls) == noticed
    watch.stop()


async def test_nothing_is_called_while_something_happens():
    calls = []
    watch = Watch(5.0, lambda: calls.append(None))
    for _ in range(20):
        watch.restart()
        await asyncio.sleep(0.001)
    watch.stop()
    assert calls == []


async def test_a_restart_puts_the_call_off():
    """Two thirds into the time it starts anew: the call comes a whole time after that."""
    loop = asyncio.get_running_loop()
    called = loop.create_future()
    watch = Watch(0.3, lambda: called.done() or called.set_result(loop.time()))
    await asyncio.sleep(0.2)
    watch.restart()
    restarted_at = loop.time()
    assert await called - restarted_at >= 0.29
    watch.stop()
