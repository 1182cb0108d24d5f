"""Sums by the minute: here, in a real Redis, and in turn when that goes away."""

import asyncio

import pytest

from app.access.counters import (
    REDIS_REST_SECONDS,
    WINDOW_SECONDS,
    GuardedCounters,
    build_counters,
)


@pytest.fixture
async def own():
    counters = build_counters(None)
    yield counters
    await counters.close()


@pytest.fixture
async def shared(redis, clock):
    counters = build_counters(redis.url, clock=clock)
    yield counters
    await counters.close()


async def test_sums_are_kept_by_name(own):
    assert (await own.add("a", 3)).total == 3
    assert (await own.add("a", 4)).total == 7
    assert (await own.add("b", 1)).total == 1


async def test_minute_begins_with_the_first_use_and_ends(own, wall_clock):
    first = await own.add("a", 5)
    assert first.ends_at == wall_clock.now + WINDOW_SECONDS
    wall_clock.now += WINDOW_SECONDS - 1
    second = await own.add("a", 5)
    assert (second.total, second.ends_at) == (10, first.ends_at)
    wall_clock.now += 1
    assert (await own.add("a", 2)).total == 2


async def test_what_is_taken_back_does_not_count(own):
    window = await own.add("a", 5)
    await own.take_back("a", 3, window)
    assert (await own.add("a", 1)).total == 3


async def test_nothing_is_taken_back_from_a_minute_that_did_not_count_it(own, wall_clock):
    window = await own.add("a", 5)
    wall_clock.now += WINDOW_SECONDS
    await own.take_back("a", 5, window)
    await own.add("a", 4)
    wall_clock.now += 1
    await own.take_back("a", 5, window)
    assert (await own.add("a", 0)).total == 4


async def test_replicas_count_together_in_redis(redis, shared):
    other = build_counters(redis.url)
    window = await shared.add("a", 3)
    assert window.is_shared
    assert (await other.add("a", 4)).total == 7
    await shared.take_back("a", 2, window)
    assert (await other.add("a", 0)).total == 5
    await other.close()


async def test_dead_redis_is_replaced_by_own_counters_until_it_is_back(
    redis, shared, clock, caplog
):
    assert (await shared.add("a", 3)).is_shared
    redis.kill()
    window = await shared.add("a", 1)
    assert (window.total, window.is_shared) == (1, False)
    await shared.take_back("a", 1, window)
    assert (await shared.add("a", 1)).total == 1
    assert "this replica counts by itself" in caplog.text
    redis.start()
    assert not (await shared.add("a", 1)).is_shared
    clock.now += REDIS_REST_SECONDS
    with caplog.at_level("INFO"):
        assert (await shared.add("a", 1)).is_shared
    assert "Redis counts rate limits again" in caplog.text


async def test_what_redis_counted_is_not_taken_back_from_own_counters(redis, shared):
    window = await shared.add("a", 3)
    redis.kill()
    await shared.add("a", 5)
    await shared.take_back("a", 3, window)
    assert (await shared.add("a", 0)).total == 5


async def test_what_is_counted_for_a_caller_who_has_gone_is_taken_back(redis, shared):
    other = build_counters(redis.url)
    await other.add("a", 2)
    call = asyncio.create_task(shared.add("a", 5))
    await asyncio.sleep(0)
    assert shared._calls
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await shared.close()
    assert (await other.add("a", 0)).total == 2
    await other.close()


class SilentCounters:
    """A Redis that takes calls and does not answer, as one behind a broken network."""

    def __init__(self):
        self.num_ended = 0

    async def add(self, _name, _amount):
        try:
            await asyncio.Event().wait()
        finally:
            self.num_ended += 1

    async def close(self):
        pass


async def test_silent_redis_is_given_up_in_time(own):
    guarded = GuardedCounters(SilentCounters(), own, timeout_seconds=0.01)
    window = await guarded.add("a", 2)
    assert (window.total, window.is_shared) == (2, False)


async def test_cancelled_caller_leaves_its_call_to_end_by_itself(own):
    silent = SilentCounters()
    guarded = GuardedCounters(silent, own, timeout_seconds=0.05)
    call = asyncio.create_task(guarded.add("a", 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert silent.num_ended == 0
    while silent.num_ended == 0:  # noqa: ASYNC110  (its own timeout ends it)
        await asyncio.sleep(0.001)
