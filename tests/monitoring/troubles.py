"""What goes wrong with a service in real life, done to a real one, and the alerts that tell of it.

Each cause is a block: the trouble begins where it is entered and is mended where it is left, with
ordinary requests before, meanwhile and afterwards. `test_alerts.py` looks at what fires.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.app.access.redis_server import RedisServer
from tests.monitoring import bench
from tests.monitoring.prometheus_server import PrometheusServer
from tests.monitoring.service import Service

# Of each second and a bit the process computes a third, as under a container's limit.
STOPPED_SECONDS, RUNNING_SECONDS = 0.8, 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What trouble is made with."""

    service: Service
    prometheus: PrometheusServer
    redis: RedisServer
    key: str
    admin_key: str
    obstacle: Path  # while it is there the strategy `hangs` does

    def load(self, *options: str, **body: object) -> AbstractContextManager[None]:
        """More load than the ordinary one, by `beamline bench`."""
        return bench.load(self.service.url, *options, key=self.key, body=body)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A cause, and the alerts that fire for it."""

    alerts: frozenset[str]
    cause: Callable[[Place], AbstractContextManager[None]]


@contextmanager
def hang(place: Place) -> Iterator[None]:
    """The whole process stands still: Prometheus cannot tell that from one that is gone."""
    place.service.suspend()
    try:
        yield
    finally:
        place.service.resume()


@contextmanager
def undiscovered(place: Place) -> Iterator[None]:
    """Prometheus finds no replica."""
    place.prometheus.scrape({})
    try:
        yield
    finally:
        place.prometheus.scrape({place.service.address: {}})


@contextmanager
def drain(place: Place) -> Iterator[None]:
    """An operator takes the only replica out, and back."""
    headers = {"Authorization": f"Bearer {place.admin_key}"}
    url = f"{place.service.url}/admin/drain"
    httpx.post(url, headers=headers).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(url, headers=headers).raise_for_status()


@contextmanager
def broken_model(place: Place) -> Iterator[None]:
    """A rollout brings a model whose weights are cut off, and the process ends with its reason."""
    with _instead(place, place.service.start_in_vain):
        yield


@contextmanager
def broken_model_hosted(place: Place) -> Iterator[None]:
    """The same under a server that goes on: only there can a scrape meet a failed service."""
    with _instead(place, place.service.host_in_vain):
        yield


@contextmanager
def faulty_strategy(place: Place) -> Iterator[None]:
    """Half of the requests use a plugin that raises in the middle of the batch."""
    with place.load("--rate", "4", strategy="fails"):
        yield


@contextmanager
def wedge(place: Place) -> Iterator[None]:
    """A step that does not end; the event loop and Prometheus go on."""
    place.obstacle.touch()
    with place.load("--concurrency", "1", strategy="hangs"):
        try:
            yield
        finally:
            place.obstacle.unlink()


@contextmanager
def overload(place: Place) -> Iterator[None]:
    """More comes than is answered, as each row of a step takes 20 ms."""
    with place.load("--rate", "16", "--new-tokens", "12", strategy="dawdles", seconds=0.02):
        yield


@contextmanager
def throttling(place: Place) -> Iterator[None]:
    """Others take the process's core most of the time."""
    is_over = threading.Event()

    def stop_and_go() -> None:
        while not is_over.is_set():
            place.service.suspend()
            is_over.wait(STOPPED_SECONDS)
            place.service.resume()
            is_over.wait(RUNNING_SECONDS)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def long_answers(place: Place) -> Iterator[None]:
    """Sequences that together want three times the KV cache."""
    with place.load("--concurrency", "64", "--new-tokens", "400", strategy="greedy"):
        yield


@contextmanager
def dead_redis(place: Place) -> Iterator[None]:
    """The shared cache's Redis is killed, and started again."""
    place.redis.kill()
    try:
        yield
    finally:
        place.redis.start()


TROUBLES = tuple(
    Trouble(frozenset(f"Beamline{name}" for name in names.split()), cause)
    for names, cause in (
        ("Down", hang),
        ("Absent", undiscovered),
        ("NotReady NoneReady", drain),
        ("SharedCacheFailing", dead_redis),
        ("EngineFailures ErrorBudgetFast ErrorBudgetSlow", faulty_strategy),
        ("Stalled", wedge),
        ("QueueLong QueueSlow Rejecting SlowFirstToken SlowTokens", overload),
        ("KVCacheFull Preempting", long_answers),
        ("EventLoopLag", throttling),
        ("Down", broken_model),
        ("Failed NoneReady", broken_model_hosted),
    )
)


@contextmanager
def _instead(place: Place, start: Callable[[], None]) -> Iterator[None]:
    """Another start in place of the service's own, which comes back afterwards."""
    place.service.stop()
    start()
    try:
        yield
    finally:
        place.service.stop()
        place.service.start()
