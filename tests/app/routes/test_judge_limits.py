"""What happens when more is to be judged than the queue holds."""

import asyncio

import pytest

TEXT = "what is the best way"


@pytest.fixture
def max_waiting_requests():
    return 3


async def test_more_than_the_queue_holds_is_refused_and_leaves_nothing_behind(service):
    service.hold()
    first = asyncio.create_task(service.post("/score", text=TEXT, continuations=["a"]))
    await service.held()
    response = await service.post("/score", text=TEXT, continuations=list("abcdefgh"))
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "queue_full"
    service.release()
    assert (await first).status_code == 200
    await service.until(service.is_idle)
    assert service.generator.num_in_flight == 0
