"""What routes ask for, as annotated types: the services, the text generator, the job store.

A route that names `GeneratorDep` or `JobsDep` is refused with a 503 while the service is loading,
draining or failed, before its body does anything. No logic beyond that refusal. They are
coroutines because FastAPI hands plain functions to a thread, which costs more than all they do.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.access.meter import Meter
from app.errors import ServiceUnavailable
from app.generation.generator import TextGenerator
from app.generation.jobs import JobStore
from app.state import Services, ServiceStatus

LOADING_RETRY_SECONDS = 5
DRAINING_RETRY_SECONDS = 10  # another replica, or this one restarted, answers by then


async def services_of(request: Request) -> Services:
    """The services of the application that this request reached."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


async def ready_generator(services: ServicesDep, request: Request) -> TextGenerator:
    """The text generator, as whoever sent this request may use it.

    Raises:
        ServiceUnavailable: the service is loading, draining or failed.
    """
    generator = services.generator
    if services.status is ServiceStatus.READY and generator is not None:
        meter: Meter | None = getattr(request.state, "meter", None)
        return generator if meter is None else generator.billed_to(meter)
    raise _refusal(services)


async def job_store(services: ServicesDep) -> JobStore:
    """The store of asynchronous jobs; answers while draining, so that results can be fetched.

    Raises:
        ServiceUnavailable: the service is loading or failed.
    """
    if services.status in (ServiceStatus.LOADING, ServiceStatus.FAILED) or services.jobs is None:
        raise _refusal(services)
    return services.jobs


GeneratorDep = Annotated[TextGenerator, Depends(ready_generator)]
JobsDep = Annotated[JobStore, Depends(job_store)]


def _refusal(services: Services) -> ServiceUnavailable:
    is_loading = services.status is ServiceStatus.LOADING
    seconds = LOADING_RETRY_SECONDS if is_loading else DRAINING_RETRY_SECONDS
    reason = services.status_reason
    return ServiceUnavailable(
        f"The service is {services.status}" + (f": {reason}" if reason else "") + ".",
        retry_after_seconds=seconds,
    )
