"""Asynchronous generations: started by one request, asked for by others, kept for a while.

The job routes use it; a job outlives the connection that began it. Bounded in number; a finished
job is forgotten after its time. Lives on the event loop, in memory: a restart forgets all jobs.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Protocol

from app.bodies.schemas import AnyResponse, ErrorDetail, JobResponse, JobStatus
from app.error_replies import describe
from app.errors import AppError, JobNotFound, JobsFull
from engine.errors import EngineError

logger = logging.getLogger(__name__)


class Work(Protocol):
    """What a job waits for: `app.generation.answers.PendingAnswer`."""

    @property
    def has_started(self) -> bool:
        """Whether the first token has come."""

    async def answer(self) -> AnyResponse:
        """The response body, or what it failed with."""

    def close(self) -> None:
        """Let go of everything that still runs."""


class Job:
    """One asynchronous generation. Its task and `cancel` are the only writers."""

    def __init__(self, work: Work, *, clock: Callable[[], float]) -> None:
        self.id = uuid.uuid4().hex
        self.finished_at: float | None = None
        self._work = work
        self._clock = clock
        self._result: AnyResponse | None = None
        self._error: ErrorDetail | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> JobStatus:
        """Where it stands."""
        if self._result is not None:
            return JobStatus.SUCCEEDED
        if self._error is not None:
            return JobStatus.FAILED
        if self.finished_at is not None:
            return JobStatus.CANCELLED
        return JobStatus.RUNNING if self._work.has_started else JobStatus.QUEUED

    @property
    def has_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.finished_at is not None

    def start(self) -> None:
        """Begin to wait for the work. Needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name=f"job {self.id}")

    def cancel(self) -> None:
        """Give it up; nothing if it has finished."""
        if self._task is not None and not self.has_finished:
            self._end()
            self._task.cancel()

    def as_response(self) -> JobResponse:
        """What clients see of it."""
        return JobResponse(id=self.id, status=self.status, result=self._result, error=self._error)

    async def _run(self) -> None:
        try:
            result = await self._work.answer()
        except Exception as error:  # nobody awaits this task: whatever it raises is the job's end
            if not isinstance(error, AppError | EngineError):
                logger.exception("job %s failed unexpectedly", self.id)
            self._error = ErrorDetail.model_validate(describe(error).as_json()["error"])
        else:
            self._result = result
        finally:
            self._end()

    def _end(self) -> None:
        if self.finished_at is None:
            self.finished_at = self._clock()
            self._work.close()


class JobStore:
    """At most `max_jobs` jobs by id. The event loop is its only user."""

    def __init__(self, max_jobs: int, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self._max_jobs = max_jobs
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._jobs: dict[str, Job] = {}

    @property
    def num_jobs(self) -> int:
        """Jobs kept, finished or not."""
        return len(self._jobs)

    def check_room(self) -> None:
        """Make sure that a job could be added now.

        Raises:
            JobsFull: as many are kept as may be, and none has expired.
        """
        self._forget_expired()
        if len(self._jobs) >= self._max_jobs:
            raise JobsFull(
                f"{self._max_jobs} jobs are kept already; try again, or delete finished ones."
            )

    def add(self, work: Work) -> Job:
        """Keep and start a job; it closes `work` when it ends, or at once if there is no room.

        Raises:
            JobsFull: as many are kept as may be.
        """
        try:
            self.check_room()
        except JobsFull:
            work.close()
            raise
        job = Job(work, clock=self._clock)
        self._jobs[job.id] = job
        job.start()
        return job

    def get(self, job_id: str) -> Job:
        """The job of this id.

        Raises:
            JobNotFound: never was, was forgotten, or has expired.
        """
        self._forget_expired()
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(
                "There is no such job. Finished jobs are forgotten after "
                f"{self._ttl_seconds:g} seconds."
            )
        return job

    def remove(self, job_id: str) -> Job:
        """Cancel a job that runs, which stays to be asked for; forget one that has finished.

        Raises:
            JobNotFound: there is no such job.
        """
        job = self.get(job_id)
        if job.has_finished:
            del self._jobs[job_id]
        else:
            job.cancel()
        return job

    def close(self) -> None:
        """Cancel whatever runs, when the service stops."""
        for job in self._jobs.values():
            job.cancel()

    def _forget_expired(self) -> None:
        oldest = self._clock() - self._ttl_seconds
        expired = [
            job.id
            for job in self._jobs.values()
            if job.finished_at is not None and job.finished_at <= oldest
        ]
        for job_id in expired:
            del self._jobs[job_id]
