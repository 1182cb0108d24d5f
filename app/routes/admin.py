"""Routes for operators: caches, memory, draining, the level of the log. No logic here.

All need a key with the scope `admin`; the door sees to that (`app/http/authentication.py`).
"""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from app.bodies.admin_bodies import (
    CacheCleared,
    CacheReport,
    DeviceMemoryReport,
    DrainReport,
    LogLevelBody,
    MemoryReleased,
    MemoryReport,
    PrefixCacheReport,
    ProcessMemoryReport,
    ResponseCacheReport,
    SharedCacheReport,
)
from app.bodies.schemas import ErrorResponse
from app.errors import ServiceUnavailable, StateConflict
from app.generation.shared_cache.counts import Lookup, Write
from app.generation.shared_cache.tier import SharedCache
from app.http.dependencies import ServicesDep
from app.process.background import run_in_thread
from app.process.logs import current_log_level, set_log_level
from app.process.memory import process_memory, release_process_memory
from app.routes.generate import ERROR_RESPONSES
from app.state import Services, ServiceStatus
from engine.device_memory import device_memory, release_device_memory

NOT_LOADED: dict[int | str, dict[str, Any]] = {503: ERROR_RESPONSES[503]}
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorResponse, "description": "Not in the state that the service is in."}
}
BAD_BODY: dict[int | str, dict[str, Any]] = {
    status: ERROR_RESPONSES[status] for status in (400, 413, 415, 422)
}


def build_router() -> APIRouter:
    """The routes below `/admin`."""
    router = APIRouter(prefix="/admin", tags=["admin"])
    at = router.add_api_route
    at("/cache", read_cache, methods=["GET"], responses=NOT_LOADED, summary="What the caches hold")
    at("/cache", clear_cache, methods=["DELETE"], responses=NOT_LOADED, summary="Forget answers")
    at("/memory", read_memory, methods=["GET"], summary="Memory of process and accelerator")
    at("/memory/release", release_memory, methods=["POST"], summary="Hand spare memory back")
    at("/drain", read_drain, methods=["GET"], summary="Whether the service takes requests")
    at("/drain", drain, methods=["POST"], responses=CONFLICT, summary="Take no more requests")
    at("/drain", resume, methods=["DELETE"], responses=CONFLICT, summary="Take requests again")
    at("/log_level", read_log_level, methods=["GET"], summary="The level of the log")
    at("/log_level", change_log_level, methods=["PUT"], responses=BAD_BODY, summary="Log otherwise")
    return router


async def read_cache(services: ServicesDep) -> CacheReport:
    """The response cache, and the keys and values kept of prompts."""
    return _cache_report(services)


async def clear_cache(services: ServicesDep) -> CacheCleared:
    """Empty the response cache. Answers that are being generated are kept once they are there.

    Answers that replicas share in Redis are forgotten for all of them, and each replica forgets its
    own when it next looks there. If Redis does not do it this is a 503; this replica's are gone.
    """
    if services.cache is None:
        raise _not_loaded()
    cleared = CacheCleared(entries=services.cache.num_entries, bytes=services.cache.num_bytes)
    services.cache.clear()
    if services.shared_cache is not None:
        await services.shared_cache.clear()
    return cleared


async def read_memory(services: ServicesDep) -> MemoryReport:
    """What is allocated, what is held in reserve, and the most it ever was."""
    return _memory_report(services)


async def release_memory(services: ServicesDep) -> MemoryReleased:
    """Collect garbage and empty the allocators' reserves. Nothing that is used is lost."""
    before = _memory_report(services)
    await run_in_thread(lambda: _release(services), name="memory-release")
    return MemoryReleased(before=before, after=_memory_report(services))


async def read_drain(services: ServicesDep) -> DrainReport:
    """How far a drain has come."""
    return _drain_report(services)


async def drain(services: ServicesDep) -> DrainReport:
    """Readiness fails and new work is refused; what runs may finish, however long it takes.

    `DELETE /admin/drain` undoes it. To end the process, send it SIGTERM.
    """
    if services.status is ServiceStatus.READY:
        services.become_draining("an operator asked for it", may_resume=True)
    elif services.status is not ServiceStatus.DRAINING:
        raise StateConflict(f"The service is {services.status}; there is nothing to drain.")
    return _drain_report(services)


async def resume(services: ServicesDep) -> DrainReport:
    """Undo a drain that an operator began; one that ends the process cannot be undone."""
    services.resume()
    if services.status is not ServiceStatus.READY:
        raise StateConflict(
            f"The service is {services.status} ({services.status_reason}) and cannot resume."
        )
    return _drain_report(services)


async def read_log_level() -> LogLevelBody:
    """The least important lines that are logged."""
    return LogLevelBody(log_level=current_log_level())


async def change_log_level(body: LogLevelBody) -> LogLevelBody:
    """Set the level, until it is set again or the service restarts."""
    set_log_level(body.log_level)
    return LogLevelBody(log_level=current_log_level())


def _cache_report(services: Services) -> CacheReport:
    if services.cache is None or services.worker is None:
        raise _not_loaded()
    stats, settings = services.worker.stats, services.settings
    return CacheReport(
        response_cache=ResponseCacheReport(
            entries=services.cache.num_entries,
            max_entries=settings.response_cache_entries,
            bytes=services.cache.num_bytes,
            max_bytes=settings.response_cache_bytes,
        ),
        shared_cache=_shared_cache_report(services.shared_cache),
        prefix_cache=PrefixCacheReport(
            tokens_in_use=stats.num_cached_tokens,
            max_tokens=stats.max_cached_tokens,
            queried_tokens=stats.num_prompt_tokens,
            hit_tokens=stats.num_prompt_tokens_from_cache,
        ),
    )


def _shared_cache_report(shared_cache: SharedCache | None) -> SharedCacheReport | None:
    if shared_cache is None:
        return None
    counts = shared_cache.counts
    return SharedCacheReport(
        state=shared_cache.breaker.state,
        lookups={outcome: counts.lookups[outcome] for outcome in Lookup},
        writes={outcome: counts.writes[outcome] for outcome in Write},
        damaged_entries=counts.faults.total(),
        pending_writes=shared_cache.num_pending_writes,
    )


def _memory_report(services: Services) -> MemoryReport:
    device = None if services.model is None else device_memory(services.model.device)
    return MemoryReport(
        process=ProcessMemoryReport(**asdict(process_memory())),
        device=None if device is None else DeviceMemoryReport(**asdict(device)),
    )


def _release(services: Services) -> None:
    release_process_memory()
    if services.model is not None:
        release_device_memory(services.model.device)


def _drain_report(services: Services) -> DrainReport:
    return DrainReport(
        status=services.status,
        reason=services.status_reason,
        num_in_flight=services.num_in_flight,
        may_resume=services.may_resume,
    )


def _not_loaded() -> ServiceUnavailable:
    return ServiceUnavailable("The model is not loaded yet; there are no caches.")
