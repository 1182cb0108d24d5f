"""Every alert on a real Prometheus: it fires when the real service is in its trouble, and ends.

Expressions and thresholds are the shipped ones. Only durations are shorter, in the proportion of
`SHORTENED` in `prometheus_server.py`.
"""

import pytest
import yaml

from tests.monitoring import plugin, prometheus_server
from tests.monitoring.prometheus_server import SHORTENED, PrometheusServer, wait_until
from tests.monitoring.service import Service
from tests.monitoring.troubles import TROUBLES, Place

# On torch nothing is exported or compiled, so that it is soon there again after each end.
OPTIONS = ("--runtime", "torch", "--max-rows", "32", "--max-waiting-requests", "40")
# Of alerts that cannot be had to fire here, the reason. A test holds it to alerts.yml.
NOT_FIRED = {
    "BeamlineRestarting": "two starts must fit into its window, which shortened is too short for "
    "a busy machine; promtool's tests have it",
    "BeamlineSeriesGrowth": "needs thousands of series and an hour; promtool's tests have it",
}


@pytest.fixture(scope="module")
def place(redis, tmp_path_factory):
    """A small service with all that can break, under a Prometheus that is quick to judge."""
    if prometheus_server.BINARY is None:
        pytest.skip("needs prometheus (Debian's package)")
    packages = tmp_path_factory.mktemp("packages")
    obstacle = packages / "obstacle"
    plugin.install(packages, obstacle=obstacle)
    settings = {"BEAMLINE_CACHE_REDIS": redis.url, "PYTHONPATH": str(packages)}
    cache = ("--kv-cache-bytes", str(2**20))
    service = Service(tmp_path_factory.mktemp("service"), *OPTIONS, *cache, settings=settings)
    prometheus = PrometheusServer(
        tmp_path_factory.mktemp("prometheus"), {service.address: {}}, durations=SHORTENED
    )
    place = Place(
        service=service,
        prometheus=prometheus,
        redis=redis,
        key=service.add_key("alice"),
        admin_key=service.add_key("operator", "--scope", "admin"),
        obstacle=obstacle,
    )
    try:
        service.start()
        prometheus.start()
        ordinary = {"strategy": "greedy", "cache": True}
        with place.load("--rate", "4", "--new-tokens", "6", **ordinary):
            yield place
    finally:
        prometheus.close()
        service.stop()


def test_each_alert_is_fired_here_or_has_a_reason_not_to_be():
    content = yaml.safe_load((prometheus_server.RULES / "alerts.yml").read_text())
    names = {rule["alert"] for group in content["groups"] for rule in group["rules"]}
    fired = {name for trouble in TROUBLES for name in trouble.alerts}
    assert fired | NOT_FIRED.keys() == names
    assert not fired & NOT_FIRED.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine a service takes a minute to be there again
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.cause.__name__)
def test_alerts_fire_in_their_trouble_and_end_when_it_is_mended(trouble, place):
    firing = place.prometheus.firing
    wait_until(lambda: not trouble.alerts & firing(), "none of its alerts fires before")
    with trouble.cause(place):
        wait_until(lambda: trouble.alerts <= firing(), f"{sorted(trouble.alerts)} fire")
    wait_until(lambda: not trouble.alerts & firing(), f"{sorted(trouble.alerts)} end")
