import pytest

from deploy.ray.scaling import replicas_needed


@pytest.mark.parametrize(
    ("by_requests", "waiting", "current", "needed"),
    [
        (0.2, 0.0, 2, 0.2),  # idle: fewer will do
        (1.7, 0.9, 2, 1.7),  # who comes between two steps is no queue
        (1.7, 1.0, 2, 3),  # few requests, but of many sequences each
        (1.7, 65.0, 2, 5),  # room for all that wait, 32 a replica
        (9.0, 65.0, 2, 9.0),
    ],
)
def test_a_queue_asks_for_more_than_there_are(by_requests, waiting, current, needed):
    found = replicas_needed(by_requests=by_requests, waiting=waiting, current=current, target=32.0)
    assert found == needed
