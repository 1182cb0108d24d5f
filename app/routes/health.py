"""The probes: `/health` for people, `/livez`, `/readyz` and `/startupz` for an orchestrator.

Each reads `Services` and answers at once, whatever the engine is doing: 200 when all is well,
otherwise 503 with the reason. They change nothing. `HEAD` is answered as `GET` is, for checkers
that want the status only; the server leaves its body out.
"""

from collections.abc import Callable

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.http.dependencies import ServicesDep
from app.state import Services, ServiceStatus


class ModelReport(BaseModel):
    """The model that is served."""

    name: str
    revision: str
    runtime: str
    device: str
    dtype: str
    weights: str
    draft_model: str | None


class LimitsReport(BaseModel):
    """What a request must fit into."""

    context_length: int
    max_rows: int
    max_cached_tokens: int
    max_waiting_requests: int


class HealthReport(BaseModel):
    """How the service is."""

    status: ServiceStatus
    reason: str
    uptime_seconds: float
    model: ModelReport | None
    limits: LimitsReport | None


class ProbeReport(BaseModel):
    """The answer of a probe."""

    ok: bool
    reason: str = ""


def build_router() -> APIRouter:
    """Routes of the four probes."""
    router = APIRouter(tags=["operations"])
    _add(router, "/health", health, HealthReport, "Status, model and limits")
    _add(router, "/livez", livez, ProbeReport, "Is the process worth keeping?")
    _add(router, "/readyz", readyz, ProbeReport, "Does it take requests now?")
    _add(router, "/startupz", startupz, ProbeReport, "Has it been ready once?")
    return router


async def health(services: ServicesDep, response: Response) -> HealthReport:
    """Everything an operator asks first; 503 unless the service is ready."""
    problem = readiness_problem(services)
    response.status_code = 503 if problem else 200
    return HealthReport(
        status=services.status,
        reason=problem or "",
        uptime_seconds=round(services.clock() - services.started_at, 3),
        model=_model_report(services),
        limits=_limits_report(services),
    )


async def livez(services: ServicesDep, response: Response) -> ProbeReport:
    """503 when only a restart helps: loading failed, or the engine died or hangs."""
    return _probe(response, liveness_problem(services))


async def readyz(services: ServicesDep, response: Response) -> ProbeReport:
    """503 while loading, draining or ill."""
    return _probe(response, readiness_problem(services))


async def startupz(services: ServicesDep, response: Response) -> ProbeReport:
    """503 until the service has been ready for the first time."""
    return _probe(response, None if services.was_ready else _status_reason(services))


def liveness_problem(services: Services) -> str | None:
    """Why the process should be replaced, or None."""
    if services.status is ServiceStatus.FAILED:
        return _status_reason(services)
    return services.engine_problem


def readiness_problem(services: Services) -> str | None:
    """Why the service takes no requests now, or None."""
    if services.status is not ServiceStatus.READY:
        return _status_reason(services)
    return services.engine_problem


def _status_reason(services: Services) -> str:
    return f"{services.status}: {services.status_reason}"


def _probe(response: Response, problem: str | None) -> ProbeReport:
    response.status_code = 503 if problem else 200
    return ProbeReport(ok=problem is None, reason=problem or "")


def _model_report(services: Services) -> ModelReport | None:
    model = services.model
    if model is None:
        return None
    return ModelReport(
        name=model.name,
        revision=model.revision,
        runtime=model.runtime,
        device=model.device,
        dtype=model.dtype,
        weights=model.weights,
        draft_model=model.draft_model,
    )


def _limits_report(services: Services) -> LimitsReport | None:
    if services.worker is None:
        return None
    limits = services.worker.limits
    return LimitsReport(
        context_length=limits.context_length,
        max_rows=limits.max_rows,
        max_cached_tokens=limits.max_cached_tokens,
        max_waiting_requests=services.settings.max_waiting_requests,
    )


def _add(
    router: APIRouter,
    path: str,
    endpoint: Callable[..., object],
    report: type[BaseModel],
    summary: str,
) -> None:
    router.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        response_model=report,
        responses={503: {"model": report, "description": "Not now; `reason` says why."}},
        summary=summary,
    )
    # A route of its own: one with both methods would stand twice in the API's document.
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
