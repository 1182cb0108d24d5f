"""The composition root: builds a service's parts, loads its model, wires it up, takes it apart.

`app/main.py` hands it to FastAPI. Starting returns at once and loads the model in a thread, so
probes answer meanwhile; a model that cannot be loaded makes the service FAILED, with the reason.
Commands that need no server use `open_services`.
With `app/loading.py` and `app/runtimes` the only place that sees `app`, `engine` and `optimize`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI

from app.access.gate import build_gate
from app.engine_metrics import ServiceCollector
from app.generation.cache import ResponseCache
from app.generation.cache_key import ModelIdentity
from app.generation.event_router import EventRouter
from app.generation.generator import TextGenerator
from app.generation.jobs import JobStore
from app.generation.request_limits import RequestLimits
from app.generation.shared_cache.building import build_shared_cache
from app.generation.urgency import UrgencyRules
from app.loading import LoadedModel, LoadModel, load_model
from app.metrics import Metrics
from app.process.background import run_in_thread
from app.process.loop_watch import LoopWatch
from app.process.progress import ProgressCallback
from app.settings import Settings
from app.state import Services
from app.telemetry.endpoint import check_tracing
from app.telemetry.journal import Journal
from app.telemetry.record import RequestObserver
from app.text.executor import TextExecutor
from app.text.grammar.compiler import GrammarCompiler
from app.vllm_metrics import VllmCollector
from engine.errors import EngineError
from engine.messages import Event
from engine.worker import EngineWorker
from optimize.errors import ModelError

CLOSE_SECONDS = 10.0  # how long closing waits for a step that is still running

logger = logging.getLogger(__name__)


def build_services(settings: Settings) -> Services:
    """The parts of a service that need no model.

    Raises:
        KeyFileError: the file with the API keys is unusable.
        TracingUnavailable: traces are wanted, and what sends them is not installed.
    """
    metrics = Metrics()
    gate = build_gate(settings, metrics, time.monotonic)
    gate.load()
    services = Services(
        settings=settings,
        metrics=metrics,
        gate=gate,
        executor=TextExecutor(
            num_threads=settings.text_threads, max_pending=settings.max_pending_texts
        ),
        clock=time.monotonic,
        started_at=time.monotonic(),
        observers=_build_observers(settings, time.monotonic),
        shared_cache=build_shared_cache(
            settings, clock=time.monotonic, observe=metrics.shared_cache_timed
        ),
    )
    services.metrics.registry.register(ServiceCollector(services))
    if settings.metrics_compat == "vllm":
        services.metrics.registry.register(VllmCollector(services))
    return services


def _build_observers(settings: Settings, clock: Callable[[], float]) -> list[RequestObserver]:
    observers: list[RequestObserver] = []
    if settings.access_log:
        observers.append(Journal(has_texts=settings.log_prompts))
    if settings.otlp_endpoint is not None:
        check_tracing(settings.otlp_endpoint)
        from app.telemetry.tracing import Tracing  # noqa: PLC0415  an optional dependency

        observers.append(Tracing(settings.otlp_endpoint, clock=clock))
    return observers


def build_lifespan(
    services: Services, progress: ProgressCallback, load: LoadModel
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan of an application with these services. It runs once."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(services, progress, load))
        loading.add_done_callback(partial(_note_failure, services))
        watch = LoopWatch(observe=services.metrics.loop_lag, clock=services.clock)
        watch.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            watch.close()
            await _close(services, loading)

    return lifespan


@asynccontextmanager
async def open_services(settings: Settings, progress: ProgressCallback) -> AsyncIterator[Services]:
    """Services with their model loaded, for use without a server; taken apart when the block ends.

    Raises:
        ModelError, EngineError: the model cannot be prepared or run.
    """
    services = build_services(settings)
    loading = asyncio.create_task(_load(services, progress, load_model))
    try:
        await asyncio.shield(loading)  # cancelled from outside, it is seen to be loading still
        yield services
    finally:
        await _close(services, loading)


async def _load(services: Services, progress: ProgressCallback, load: LoadModel) -> None:
    work = partial(_load_all, services.settings, progress, load)
    loaded, grammars = await run_in_thread(work, name="model-loader")
    _wire(services, loaded, grammars)
    services.become_ready()
    seconds = services.clock() - services.started_at
    logger.info("%s is loaded after %.1f s", loaded.served.name, seconds)


def _load_all(
    settings: Settings, progress: ProgressCallback, load: LoadModel
) -> tuple[LoadedModel, GrammarCompiler]:
    """The model, and what takes time to make of its tokenizer."""
    loaded = load(settings, progress)
    grammars = GrammarCompiler.build(
        loaded.tokenizer,
        vocab_size=loaded.engine.limits.vocab_size,
        eos_token_ids=loaded.eos_token_ids,
    )
    return loaded, grammars


def _wire(services: Services, loaded: LoadedModel, grammars: GrammarCompiler) -> None:
    settings, served = services.settings, loaded.served
    router = EventRouter()
    worker = EngineWorker(
        loaded.engine,
        deliver=_deliver_on_loop(asyncio.get_running_loop(), router),
        max_waiting_requests=settings.max_waiting_requests,
    )
    cache = ResponseCache(
        max_entries=settings.response_cache_entries, max_bytes=settings.response_cache_bytes
    )
    services.worker, services.cache, services.shards = worker, cache, loaded.shards
    if services.shared_cache is not None:
        services.shared_cache.on_cleared = cache.clear
    services.model = served
    services.generator = TextGenerator(
        tokenizer=loaded.tokenizer,
        worker=worker,
        router=router,
        executor=services.executor,
        cache=cache,
        metrics=services.metrics,
        model=ModelIdentity(
            name=served.name,
            revision=served.revision,
            runtime=" ".join(
                (served.runtime, served.operators, served.device, served.dtype, served.weights)
            )
            + (f" x{served.tensor_parallel_size}" if served.tensor_parallel_size > 1 else ""),
        ),
        grammars=grammars,
        request_limits=_request_limits(settings),
        eos_token_ids=loaded.eos_token_ids,
        clock=services.clock,
        shared_cache=services.shared_cache,
        is_cache_per_key=not settings.cache_across_keys,
        default_guesses=settings.default_guesses,
        urgency_rules=UrgencyRules(
            timeout_seconds=settings.timeout_seconds,
            max_timeout_seconds=settings.max_timeout_seconds,
            queue_timeout_seconds=settings.queue_timeout_seconds,
            min_priority=settings.min_priority,
        ),
    )
    services.jobs = JobStore(
        max_jobs=settings.max_jobs, ttl_seconds=settings.job_ttl_seconds, clock=services.clock
    )
    worker.start()


def _request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        max_prompt_tokens=settings.max_prompt_tokens,
        max_new_tokens=settings.max_new_tokens,
        max_sequences=settings.max_sequences,
        max_texts=settings.max_texts,
        max_stops=settings.max_stops,
    )


def _deliver_on_loop(
    loop: asyncio.AbstractEventLoop, router: EventRouter
) -> Callable[[Sequence[Event]], None]:
    """What the engine thread calls: carries a step's events over to the event loop."""

    def deliver(events: Sequence[Event]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(router.dispatch, events)

    return deliver


def _note_failure(services: Services, loading: asyncio.Task[None]) -> None:
    error = None if loading.cancelled() else loading.exception()
    if error is None:
        return
    services.become_failed(error)
    is_expected = isinstance(error, ModelError | EngineError)
    logger.error("cannot serve: %s", error, exc_info=None if is_expected else error)


async def _close(services: Services, loading: asyncio.Task[None]) -> None:
    services.become_draining("the service is stopping")
    if not loading.done():  # it cannot be interrupted, and leaves nothing half-written behind
        services.has_stuck_thread = True
        loading.cancel()
    if services.jobs is not None:
        services.jobs.close()
    if services.generator is not None:
        services.generator.abort_all("the service is stopping")
    if services.worker is not None:
        await _close_worker(services, services.worker)
    if services.shards is not None:
        await run_in_thread(services.shards.close, name="shards-closer")
    if services.shared_cache is not None:
        await services.shared_cache.close()
    services.executor.close()
    for observer in services.observers:
        with suppress(TimeoutError):  # a collector that does not answer must not hold up the end
            async with asyncio.timeout(CLOSE_SECONDS):
                await run_in_thread(observer.close, name="observer-closer")
    await services.gate.close()


async def _close_worker(services: Services, worker: EngineWorker) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await run_in_thread(worker.close, name="engine-closer")
    except TimeoutError:
        services.has_stuck_thread = True
        logger.error("the engine is still in a step after %.0f s; leaving it", CLOSE_SECONDS)  # noqa: TRY400
