"""A late event loop shows, by as much as it is late, and a closed watch is silent."""

import asyncio

import pytest

from app.process.loop_watch import INTERVAL_SECONDS, LoopWatch
from tests.engine.hand_clock import HandClock


class HandLoop:
    """Holds the timers of a loop until a test rings them."""

    def __init__(self):
        self.timers = []

    def call_later(self, _seconds, callback, *arguments):
        self.timers.append((callback, arguments))
        return asyncio.TimerHandle(0, callback, arguments, asyncio.get_running_loop())

    def ring(self):
        callback, arguments = self.timers.pop(0)
        callback(*arguments)


async def test_timers_are_late_by_what_held_the_loop_up():
    seen, loop, clock = [], HandLoop(), HandClock()
    LoopWatch(observe=seen.append, clock=clock).start(loop)
    for late in (0.0, 1.5, 0.25):
        clock.seconds += INTERVAL_SECONDS + late
        loop.ring()
    assert seen == pytest.approx([0.0, 1.5, 0.25])


async def test_watch_of_a_real_loop_goes_on_until_it_is_closed():
    seen, loop = [], asyncio.get_running_loop()
    twice = asyncio.Event()

    def observe(seconds):
        seen.append(seconds)
        if len(seen) == 2:
            watch.close()
            twice.set()

    watch = LoopWatch(observe=observe, clock=loop.time)
    watch.start(loop)
    await asyncio.wait_for(twice.wait(), 30)
    assert all(seconds >= 0 for seconds in seen)
