"""Real Ray that adds a replica when requests queue, takes it away again, and ends: nobody is cut.

The tests build on each other: one grows the cluster that the next one shrinks and the last ends.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deploy.ray.conftest import REPLICA, Place, start_cluster
from tests.deploy.ray.observing import BODY, gated, last_event, replicas, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
]  # Ray looks back on half a minute before it takes a replica away

KEY = "admin-key-0000001"
NUM_CLIENTS = 24


@pytest.fixture(scope="module")
def ray_service(place):
    """One replica that may become two, with keys."""
    environment = place.environment | {"BEAMLINE_ADMIN_API_KEYS": KEY}
    service = start_cluster(
        Place(place.folder, place.model, environment),
        {"max_rows": 4, "grace_seconds": 50.0},
        min_replicas=1,
        max_replicas=2,
        target_requests=4,
        upscale_delay_seconds=1.0,
        downscale_delay_seconds=1.0,
    )
    yield service
    service.close()


@pytest.fixture
def client(url):
    headers = {"Authorization": f"Bearer {KEY}"}
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=url, timeout=300.0, headers=headers, limits=limits) as client:
        yield client


def test_requests_that_queue_bring_a_second_replica_which_takes_its_share(client):
    assert len(replicas(client)) == 1
    is_over = threading.Event()
    seen: set[str] = set()

    def be_a_client(number):
        statuses = set()
        while not is_over.is_set():
            body = BODY | {"text": f"Client {number} counts ships.", "max_new_tokens": 30}
            answer = client.post("/generate", json=body)
            statuses.add(answer.status_code)
            seen.add(answer.headers["x-replica"])
        return statuses

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        told = [pool.submit(be_a_client, number) for number in range(NUM_CLIENTS)]
        try:
            wait_until(lambda: len(seen) == 2)
        finally:
            is_over.set()
    assert set().union(*(each.result() for each in told)) == {200}
    assert len(replicas(client)) == 2


def test_a_replica_that_an_operator_drains_gets_nothing_more_until_it_resumes(client):
    session = {"x-session-id": "of a drained one"}
    home = client.post("/generate", json=BODY, headers=session).headers["x-replica"]
    there = {"x-replica": home}
    assert client.post("/admin/drain", headers=there).status_code == 200
    elsewhere = [client.post("/generate", json=BODY, headers=session) for _ in range(4)]
    assert client.post("/generate", json=BODY, headers=there).status_code == 503
    assert client.delete("/admin/drain", headers=there).status_code == 200
    assert [each.status_code for each in elsewhere] == [200] * 4
    assert home not in {each.headers["x-replica"] for each in elsewhere}
    assert client.post("/generate", json=BODY, headers=session).headers["x-replica"] == home


def test_a_replica_that_is_taken_away_ends_its_streams_first(client, ray_service, tmp_path):
    file = tmp_path / "go"
    with ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(stream_to_its_end, client, file, name) for name in sorted(replicas(client))
        ]
        wait_until(lambda: len(replicas(client)) == 1)
        assert len(ray_service.processes(REPLICA)) == 2  # the other lives for its stream
        file.touch()
        ends = [each.result() for each in told]
    assert ends == ["done", "done"]
    wait_until(lambda: len(ray_service.processes(REPLICA)) == 1)


def test_what_was_accepted_is_answered_before_the_application_ends(client, ray_service, tmp_path):
    file = tmp_path / "go"
    (home,) = replicas(client)
    with ThreadPoolExecutor(4) as pool:
        stream = pool.submit(stream_to_its_end, client, file, home)
        whole = pool.submit(client.post, "/generate", json=gated(file))
        wait_until(lambda: client.get("/admin/drain").json()["num_in_flight"] == 2)
        ray_service.process.terminate()
        wait_until(lambda: client.post("/generate", json=BODY).status_code != 200)
        file.touch()
        assert stream.result() == "done"
        assert whole.result().status_code == 200
    assert ray_service.wait() == 0


def stream_to_its_end(client, file, replica):
    """The last event of a stream of that replica's."""
    there = {"x-replica": replica}
    with client.stream("POST", "/generate/stream", json=gated(file), headers=there) as answer:
        return last_event(answer.iter_lines())
