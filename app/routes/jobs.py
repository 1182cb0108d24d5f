"""`POST /generate_async` and what becomes of it: ask, fetch, cancel.

Starts a body as `routes/generate.py` does and leaves it with the job store, so that it goes on
when the client has gone.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request, Response

from app.bodies.request_fields import GenerateBody
from app.bodies.request_models import StrategyUnion
from app.bodies.schemas import ErrorResponse, JobResponse
from app.generation.answers import begin
from app.http.dependencies import GeneratorDep, JobsDep
from app.http.disconnect import run_until_disconnect
from app.routes.generate import ERROR_RESPONSES
from decoding.base import Strategy

PATH = "/generate_async"
JobId = Annotated[str, Path(max_length=64, description="The id that POST /generate_async gave.")]
JOB_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "No such job, or it has expired."},
    422: ERROR_RESPONSES[422],
    503: ERROR_RESPONSES[503],
}
LOCATION_HEADER = {"Location": {"description": "Where to ask.", "schema": {"type": "string"}}}


def build_router(strategies: Mapping[str, type[Strategy]]) -> APIRouter:
    """The routes, with a body model for each strategy."""
    router = APIRouter(tags=["jobs"])
    union = StrategyUnion(strategies)
    body_info = Body(openapi_examples=union.examples)  # type: ignore[arg-type]

    @router.post(
        PATH,
        status_code=202,
        response_model=JobResponse,
        responses=ERROR_RESPONSES | {202: {"headers": LOCATION_HEADER, "description": "Started."}},
        summary="Generate in the background",
    )
    async def create_job(
        body: Annotated[GenerateBody, union, body_info],
        generator: GeneratorDep,
        jobs: JobsDep,
        request: Request,
        response: Response,
    ) -> JobResponse:
        """Begin what `POST /generate` does and answer at once with the id of a job.

        What can be refused is refused now. The job goes on when the client has gone; its result
        is kept for a while after it finished.
        """
        jobs.check_room()
        pending = await run_until_disconnect(
            request.receive, begin(generator, body.as_requests(), is_list=body.is_list)
        )
        job = jobs.add(pending)
        response.headers["Location"] = str(request.url_for("read_job", job_id=job.id).path)
        return job.as_response()

    @router.get(
        PATH + "/{job_id}",
        response_model=JobResponse,
        responses=JOB_ERRORS,
        summary="Ask for a job",
    )
    async def read_job(job_id: JobId, jobs: JobsDep) -> JobResponse:
        """Where a job stands, with its result once it has one."""
        return jobs.get(job_id).as_response()

    @router.delete(
        PATH + "/{job_id}",
        response_model=JobResponse,
        responses=JOB_ERRORS,
        summary="Cancel or forget a job",
    )
    async def remove_job(job_id: JobId, jobs: JobsDep) -> JobResponse:
        """Cancel a job that has not finished; it can be asked for until it expires.

        A job that has finished is forgotten; this is the last time its result is given.
        """
        return jobs.remove(job_id).as_response()

    return router
