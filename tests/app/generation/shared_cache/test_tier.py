"""Answers shared through a real Redis: what is found, and what nobody can smuggle in."""

import asyncio
import time

import pytest
import trustme

from app.errors import ServiceUnavailable
from app.generation.shared_cache.breaker import BreakerState
from app.generation.shared_cache.counts import Lookup, Write
from app.generation.shared_cache.digest import KeyDigest
from app.generation.shared_cache.entry import EntryFormat, Fault
from tests.app.access.redis_server import RedisServer
from tests.app.generation.shared_cache.answers import answer, key
from tests.app.generation.shared_cache.conftest import PREFIX

SECRET = "a secret that replicas share, only they"


async def keep(cache, a_key, completed):
    """Store as the generator does: after having looked in vain."""
    assert await cache.find(a_key) is None
    cache.keep(a_key, completed)
    await cache.settled()
    assert cache.counts.writes[Write.STORED] > 0


def name_of(a_key, secret=None):
    return f"{PREFIX}:{KeyDigest(secret)(a_key).hex()}"


async def test_answer_of_one_replica_is_found_by_another_and_no_other_answer(cache, other):
    await keep(cache, key(1), answer("one"))
    assert await other.find(key(1)) == answer("one")
    assert await other.find(key(2)) is None
    assert other.counts.lookups == {Lookup.HIT: 1, Lookup.MISS: 1}
    assert cache.counts.writes == {Write.STORED: 1}


async def test_one_lookup_serves_all_who_ask_for_the_same_at_a_time(cache, other, database):
    await keep(cache, key(1), answer())
    found = await asyncio.gather(*(other.find(key(1)) for _ in range(50)))
    assert found == [answer()] * 50
    assert other.counts.lookups == {Lookup.HIT: 1}
    reads = database.info("commandstats")["cmdstat_getrange"]["calls"]
    assert reads == 2  # one of each replica


async def test_large_answers_are_shared_as_well(cache, other):
    large = answer("x" * 5000, num_tokens=20_000)
    await keep(cache, key(1), large)
    assert await other.find(key(1)) == large


async def test_too_large_an_answer_is_not_stored(open_cache, database):
    cache = open_cache(cache_redis_entry_bytes=1024)
    assert await cache.find(key(1)) is None
    cache.keep(key(1), answer(num_tokens=20_000))
    await cache.settled()
    assert cache.counts.writes == {Write.TOO_LARGE: 1}
    assert database.keys() == [f"{PREFIX}:generation".encode()]


async def test_entries_expire_and_the_prompt_is_nowhere_to_be_read(open_cache, database):
    cache = open_cache(cache_redis_ttl_seconds=100.0)
    secret_words = key(prompt_ids=tuple(b"attack at dawn"), stop=("attack at dawn",))
    await keep(cache, secret_words, answer())
    (name,) = database.keys(f"{PREFIX}:[0-9a-f]*[0-9a-f]")
    assert 0 < database.pttl(name) <= 100_000
    assert b"attack" not in name + database.get(name)


async def test_replicas_with_another_secret_or_prefix_find_nothing(open_cache):
    keyed = open_cache(cache_redis_secret=SECRET)
    await keep(keyed, key(1), answer())
    assert await open_cache(cache_redis_secret=SECRET).find(key(1)) == answer()
    others = [
        {},
        {"cache_redis_secret": SECRET + "!"},
        {"cache_redis_secret": SECRET, "cache_redis_prefix": "elsewhere"},
    ]
    for settings in others:
        cache = open_cache(**settings)
        assert await cache.find(key(1)) is None
        assert cache.counts.faults.total() == 0


class TestPoison:
    """Somebody writes to the Redis. With a secret all of it is found out."""

    @pytest.fixture
    def cache(self, open_cache):
        return open_cache(cache_redis_secret=SECRET)

    @pytest.fixture
    def other(self, open_cache):
        return open_cache(cache_redis_secret=SECRET)

    @pytest.fixture
    def name(self):
        return name_of(key(1), SECRET.encode())

    async def is_found_out(self, other, database, name, fault):
        assert await other.find(key(1)) is None
        assert other.counts.faults == {fault: 1}
        assert other.counts.lookups == {Lookup.MISS: 1}
        await other.settled()
        assert not database.exists(name)
        await keep(other, key(1), answer("the right one"))
        assert await other.find(key(1)) == answer("the right one")
        assert other.breaker.num_opened == 0

    async def test_rubbish(self, other, database, name):
        database.set(name, b"rubbish")
        await self.is_found_out(other, database, name, Fault.FOREIGN)

    async def test_another_type(self, other, database, name):
        database.rpush(name, "a", "list")
        await self.is_found_out(other, database, name, Fault.WRONG_TYPE)

    async def test_endless_value_of_which_no_more_is_read_than_may_be(self, other, database, name):
        database.set(name, bytes(50 * 2**20))
        before = database.info("stats")["total_net_output_bytes"]
        await self.is_found_out(other, database, name, Fault.OVERSIZE)
        assert database.info("stats")["total_net_output_bytes"] - before < 2 * 2**20

    async def test_cut_value(self, cache, other, database, name):
        await keep(cache, key(1), answer())
        database.set(name, database.get(name)[:-1])
        await self.is_found_out(other, database, name, Fault.TRUNCATED)

    async def test_changed_value(self, cache, other, database, name):
        await keep(cache, key(1), answer())
        database.setrange(name, 100, b"?")
        await self.is_found_out(other, database, name, Fault.SEAL)

    async def test_answer_of_another_key(self, cache, other, database, name):
        await keep(cache, key(2), answer("another"))
        database.copy(name_of(key(2), SECRET.encode()), name)
        await self.is_found_out(other, database, name, Fault.FOREIGN)

    async def test_forged_answer(self, cache, other, database, name):
        await keep(cache, key(2), answer())  # so that there is a generation
        generation = database.get(f"{PREFIX}:generation")
        forger = EntryFormat(secret=None, max_bytes=2**20)
        digest = KeyDigest(SECRET.encode())(key(1))
        forged = forger.encode(answer("forged"), digest=digest, generation=generation)
        database.set(name, forged)
        await self.is_found_out(other, database, name, Fault.SEAL)

    @pytest.mark.parametrize("value", [b"short", b"much longer than a generation is"])
    async def test_generation_of_rubbish_is_replaced(self, cache, other, database, value):
        database.set(f"{PREFIX}:generation", value)
        await keep(cache, key(1), answer())
        assert await other.find(key(1)) == answer()

    async def test_generation_of_another_type_is_replaced(self, cache, other, database):
        database.rpush(f"{PREFIX}:generation", "a", "list")
        await keep(cache, key(1), answer())
        assert await other.find(key(1)) == answer()


class TestClearing:
    async def test_nothing_that_was_there_is_found_any_more_and_what_comes_is(self, cache, other):
        await keep(cache, key(1), answer("old"))
        await other.clear()
        assert await other.find(key(1)) is None
        assert await cache.find(key(1)) is None
        await keep(cache, key(1), answer("new"))
        assert await other.find(key(1)) == answer("new")

    async def test_other_replicas_forget_their_own_when_they_look_next(self, cache, other):
        forgotten = []
        cache.on_cleared = lambda: forgotten.append("cache")
        other.on_cleared = lambda: forgotten.append("other")
        await keep(cache, key(1), answer())
        await other.find(key(1))
        await other.clear()
        assert forgotten == []
        await other.find(key(1))
        await cache.find(key(1))
        await cache.find(key(2))
        assert forgotten == ["cache"]

    async def test_lost_generation_is_no_clearing_and_brings_nothing_back(
        self, cache, other, database
    ):
        """A Redis that lost its memory, or evicted that one name."""
        forgotten = []
        cache.on_cleared = lambda: forgotten.append("cache")
        await keep(cache, key(1), answer("old"))
        await cache.clear()
        await keep(cache, key(2), answer("new"))
        database.delete(f"{PREFIX}:generation")
        assert await cache.find(key(1)) is None
        assert await cache.find(key(2)) == answer("new")
        assert await other.find(key(2)) == answer("new")
        assert forgotten == []

    async def test_operator_is_told_when_redis_does_not_do_it(self, cache, redis):
        redis.kill()
        with pytest.raises(ServiceUnavailable, match="Redis does not answer"):
            await cache.clear()


class TestTrouble:
    async def test_dead_redis_is_left_alone_after_a_few_lookups_and_found_again(
        self, cache, redis, clock, caplog
    ):
        caplog.set_level("INFO")
        await keep(cache, key(1), answer())
        redis.kill()
        for number in range(20):
            assert await cache.find(key(number)) is None
            cache.keep(key(number), answer())
            await cache.settled()  # one call at a time: no other is under way when it opens
        assert cache.breaker.state is BreakerState.OPEN
        assert cache.counts.lookups == {Lookup.MISS: 1, Lookup.ERROR: 3, Lookup.SKIPPED: 17}
        assert cache.counts.writes == {Write.STORED: 1, Write.ERROR: 2, Write.SKIPPED: 18}
        clock.now += 1
        assert await cache.find(key(1)) is None  # the probe
        assert cache.breaker.num_opened == 2
        redis.start()
        assert await cache.find(key(1)) is None  # it is left alone still
        clock.now += 2
        await keep(cache, key(1), answer())
        assert await cache.find(key(1)) == answer()
        assert cache.breaker.state is BreakerState.CLOSED
        assert caplog.text.count("the shared cache does not answer (ConnectionError") == 1
        lines = [record.message for record in caplog.records]
        assert lines.count("the shared cache answers again") == 1

    async def test_redis_that_was_restarted_between_two_lookups_costs_nothing(self, cache, redis):
        await keep(cache, key(1), answer())
        redis.kill()
        redis.start()
        await keep(cache, key(2), answer())
        assert cache.counts.lookups == {Lookup.MISS: 2}

    async def test_silent_redis_is_asked_five_times_and_no_more(self, open_cache, redis, clock):
        cache = open_cache(cache_redis_timeout_seconds=0.02)
        redis.freeze()
        for number in range(100):
            assert await cache.find(key(number)) is None
        assert cache.counts.lookups == {Lookup.ERROR: 5, Lookup.SKIPPED: 95}
        redis.thaw()
        clock.now += 1
        while cache.breaker.state is not BreakerState.CLOSED:
            await cache.find(key(1))
            clock.now += 30

    async def test_full_redis_stores_nothing_and_is_read_as_before(
        self, cache, other, database, caplog
    ):
        await keep(cache, key(1), answer())
        database.config_set("maxmemory", "1")
        database.config_set("maxmemory-policy", "noeviction")
        for number in range(2, 12):
            assert await cache.find(key(number)) is None
            cache.keep(key(number), answer())
        await cache.settled()
        assert cache.counts.writes == {Write.STORED: 1, Write.ERROR: 10}
        assert await other.find(key(1)) == answer()
        assert (cache.breaker.num_opened, other.breaker.num_opened) == (0, 0)
        assert caplog.text.count("Redis refuses what the shared cache asks") == 1

    async def test_redis_that_wants_a_password_costs_misses_and_tells_none(
        self, open_cache, redis, database, caplog
    ):
        database.config_set("requirepass", "open-sesame")
        address = f"127.0.0.1:{redis.port}/0"
        knowing = open_cache(cache_redis=f"redis://:open-sesame@{address}")
        await keep(knowing, key(1), answer())
        guessing = open_cache(cache_redis=f"redis://:swordfish@{address}")
        for _ in range(10):
            assert await guessing.find(key(1)) is None
        assert guessing.counts.lookups == {Lookup.ERROR: 5, Lookup.SKIPPED: 5}
        assert "does not answer (AuthenticationError" in caplog.text
        assert "swordfish" not in caplog.text
        assert "open-sesame" not in caplog.text

    async def test_cancelled_lookups_never_give_anybody_anothers_answer(
        self, open_cache, cache, database
    ):
        """As it once happened with redis-py: whoever is cancelled leaves its reply to the next."""
        num_keys = 30
        for number in range(num_keys):
            await keep(cache, key(number), answer(f"answer {number}", num_tokens=500))
        reader = open_cache()
        for turn in range(40):
            asked = [
                asyncio.create_task(reader.find(key(number % num_keys)))
                for number in range(turn, turn + 2 * num_keys)
            ]
            for _ in range(turn % 20):  # so that each turn cancels at another place
                await asyncio.sleep(0)
            for task in asked[::2]:
                task.cancel()
            found = await asyncio.gather(*asked, return_exceptions=True)
            for place, each in enumerate(found):
                if not isinstance(each, asyncio.CancelledError):
                    number = (turn + place) % num_keys
                    assert each == answer(f"answer {number}", num_tokens=500)
        for number in range(num_keys):
            assert await reader.find(key(number)) == answer(f"answer {number}", num_tokens=500)
        assert set(reader.counts.lookups) == {Lookup.HIT}
        assert reader.counts.faults.total() == 0
        assert database.info("clients")["connected_clients"] <= 16 + 16 + 1

    async def test_busy_event_loop_is_not_taken_for_a_slow_redis(self, open_cache, cache):
        await keep(cache, key(1), answer())
        reader = open_cache(cache_redis_timeout_seconds=0.05)
        await open_connection(reader)
        for _ in range(10):
            lookup = asyncio.create_task(reader.find(key(1)))
            for _ in range(6):  # it is sent meanwhile
                await asyncio.sleep(0)
            time.sleep(0.1)  # noqa: ASYNC251  (the busy loop that this is about)
            assert await lookup == answer()
        assert reader.counts.lookups[Lookup.ERROR] == 0

    async def test_closing_stores_what_is_pending_and_then_does_nothing(self, cache, other):
        for number in range(10):
            assert await cache.find(key(number)) is None
            cache.keep(key(number), answer(f"answer {number}"))
        await cache.close()
        await cache.close()
        assert [await other.find(key(number)) for number in range(10)] == [
            answer(f"answer {number}") for number in range(10)
        ]
        assert await cache.find(key(1)) is None
        cache.keep(key(1), answer())
        assert cache.counts.writes[Write.DROPPED] == 1

    async def test_closing_does_not_wait_for_a_redis_that_is_silent(self, cache, redis):
        assert await cache.find(key(1)) is None
        redis.freeze()
        lookups = [asyncio.create_task(cache.find(key(number))) for number in range(5)]
        cache.keep(key(1), answer())
        await asyncio.sleep(0)
        await cache.close()
        assert await asyncio.gather(*lookups) == [None] * 5

    async def test_more_writes_than_may_wait_are_dropped(self, cache, redis):
        assert await cache.find(key(1)) is None
        redis.freeze()
        for number in range(200):
            cache.keep(key(number), answer())
        assert cache.num_pending_writes == 64
        assert cache.counts.writes == {Write.DROPPED: 136}
        redis.thaw()
        await cache.settled()
        assert cache.counts.writes == {Write.DROPPED: 136, Write.STORED: 64}


async def open_connection(cache):
    """Look until a connection is open: the first lookup may take longer than it is given."""
    while not cache.counts.lookups[Lookup.HIT]:
        await cache.find(key(1))


async def test_answers_travel_by_tls_and_only_to_a_server_that_is_trusted(open_cache, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "server.pem"
    )
    for name, each in (("ours", authority), ("strange", stranger)):
        each.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    server = RedisServer()
    tls = {"port": server.port, "cert-file": "server.pem", "key-file": "server.pem"}
    files = [
        part
        for name, value in (tls | {"ca-cert-file": "ours.pem"}).items()
        for part in (f"--tls-{name}", str(value if name == "port" else tmp_path / value))
    ]
    server = RedisServer("--port", "0", "--tls-auth-clients", "no", *files)
    server.start()
    try:
        url = f"rediss://127.0.0.1:{tls['port']}/0?ssl_ca_certs={tmp_path}"
        await keep(open_cache(cache_redis=f"{url}/ours.pem"), key(1), answer())
        assert await open_cache(cache_redis=f"{url}/ours.pem").find(key(1)) == answer()
        suspicious = open_cache(cache_redis=f"{url}/strange.pem")
        assert await suspicious.find(key(1)) is None
        assert suspicious.counts.lookups == {Lookup.ERROR: 1}
    finally:
        server.kill()
