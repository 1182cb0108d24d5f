"""Asynchronous generations: the store's bounds and times, and the routes on a real engine."""

import asyncio

import pytest

from app.bodies.schemas import JobStatus, ListResponse
from app.errors import JobNotFound, JobsFull
from app.generation.jobs import JobStore
from engine.errors import StepFailed

BODY = {"text": "the quick brown", "strategy": "greedy", "max_new_tokens": 8}


class Work:
    """A generation whose end the test decides."""

    def __init__(self):
        self.has_started = False
        self.num_closed = 0
        self.closed = asyncio.Event()
        self.end = asyncio.get_running_loop().create_future()

    async def answer(self):
        return await self.end

    def close(self):
        self.num_closed += 1
        self.closed.set()


@pytest.fixture
async def store(clock):
    store = JobStore(max_jobs=2, ttl_seconds=10.0, clock=clock)
    yield store
    store.close()


async def test_a_job_is_queued_then_runs_then_has_its_result(store):
    work = Work()
    job = store.add(work)
    assert job.status is JobStatus.QUEUED
    work.has_started = True
    assert job.status is JobStatus.RUNNING
    work.end.set_result(ListResponse(results=[]))
    await work.closed.wait()
    assert job.status is JobStatus.SUCCEEDED
    assert job.as_response().result == ListResponse(results=[])
    assert work.num_closed == 1


@pytest.mark.parametrize("error", [StepFailed("no"), RuntimeError("no")])
async def test_a_job_that_fails_says_why(store, error):
    work = Work()
    job = store.add(work)
    work.end.set_exception(error)
    await work.closed.wait()
    assert job.status is JobStatus.FAILED
    assert job.as_response().error.code in {"step_failed", "internal_error"}
    assert work.num_closed == 1


async def test_removing_a_running_job_cancels_it_and_keeps_its_state(store):
    work = Work()
    job = store.add(work)
    assert store.remove(job.id) is job
    assert work.num_closed == 1
    assert store.get(job.id).status is JobStatus.CANCELLED
    store.remove(job.id)
    with pytest.raises(JobNotFound):
        store.get(job.id)


async def test_more_jobs_than_allowed_are_refused_and_let_go(store):
    for _ in range(2):
        store.add(Work())
    refused = Work()
    with pytest.raises(JobsFull):
        store.add(refused)
    assert refused.num_closed == 1


async def test_a_finished_job_is_forgotten_after_its_time_and_a_running_one_is_not(store, clock):
    finished, running = Work(), Work()
    finished.end.set_result(ListResponse(results=[]))
    job = store.add(finished)
    other = store.add(running)
    await finished.closed.wait()
    clock.now += 9.9
    assert store.get(job.id) is job
    clock.now += 0.2
    with pytest.raises(JobNotFound):
        store.get(job.id)
    assert store.get(other.id) is other
    store.add(Work())


async def test_closing_the_store_lets_go_of_everything(store):
    works = [Work(), Work()]
    jobs = [store.add(work) for work in works]
    store.close()
    assert [work.num_closed for work in works] == [1, 1]
    assert {job.status for job in jobs} == {JobStatus.CANCELLED}


async def finished(service, location):
    job_id = location.rsplit("/", 1)[1]
    await service.until(lambda: service.parts.jobs.get(job_id).has_finished)
    return (await service.client.get(location)).json()


async def test_a_job_gives_what_generate_gives(service):
    expected = await service.generate(**BODY, cache=False)
    response = await service.post("/generate_async", **BODY, cache=False)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/generate_async/{job['id']}"
    done = await finished(service, response.headers["location"])
    assert done["status"] == "succeeded"
    assert done["result"] == expected
    assert done["error"] is None


async def test_a_job_may_answer_a_list(service):
    response = await service.post("/generate_async", **BODY | {"text": ["the", "dog"]})
    done = await finished(service, response.headers["location"])
    assert len(done["result"]["results"]) == 2


async def test_what_can_be_refused_is_refused_when_the_job_is_posted(service):
    response = await service.post("/generate_async", text="dog", max_new_tokens=1000)
    assert response.status_code == 422
    assert service.parts.jobs.num_jobs == 0


async def test_a_job_outlives_the_connection_that_posted_it(service):
    service.hold()
    async with service.call("/generate_async", BODY) as call:
        await call.task
    service.release()
    [job_id] = service.parts.jobs._jobs
    assert (await finished(service, f"/generate_async/{job_id}"))["status"] == "succeeded"


async def test_a_job_whose_step_fails_says_so(service):
    service.runner.failure = RuntimeError("device lost")
    response = await service.post("/generate_async", **BODY)
    done = await finished(service, response.headers["location"])
    service.runner.failure = None
    assert done["status"] == "failed"
    assert done["error"]["code"] == "step_failed"


async def test_deleting_a_running_job_frees_its_sequences(service):
    service.hold()
    response = await service.post("/generate_async", **BODY)
    await service.held()
    location = response.headers["location"]
    assert (await service.client.get(location)).json()["status"] == "queued"
    deleted = await service.client.delete(location)
    assert deleted.json()["status"] == "cancelled"
    service.release()
    await service.until(service.is_idle)
    assert (await service.client.get(location)).json()["status"] == "cancelled"
    assert (await service.client.delete(location)).status_code == 200
    assert (await service.client.get(location)).status_code == 404


async def test_a_full_store_is_a_503_that_says_when_to_come_back(service):
    service.hold()
    for _ in range(3):
        assert (await service.post("/generate_async", **BODY)).status_code == 202
    response = await service.post("/generate_async", **BODY)
    service.release()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "jobs_full"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("job_id", ["never", "x" * 1000])
async def test_an_unknown_job_is_not_found(service, job_id):
    for method in ("GET", "DELETE"):
        response = await service.client.request(method, f"/generate_async/{job_id}")
        assert response.status_code in {404, 422}
        assert response.json()["error"]["message"]
