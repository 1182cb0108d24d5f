"""Everything a running service consists of, in one object on `app.state.services`.

The lifespan builds it, fills it in when the model is loaded and takes it apart; routes reach it
through `app/http/dependencies.py`. It is kept on the application and not in the lifespan's own
state, which some hosts (Ray Serve among them) do not hand on to requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.access.gate import Gate
from app.generation.cache import ResponseCache
from app.generation.generator import TextGenerator
from app.generation.jobs import JobStore
from app.generation.shared_cache.tier import SharedCache
from app.metrics import Metrics
from app.settings import Settings
from app.telemetry.record import RequestObserver
from app.text.executor import TextExecutor
from engine.worker import EngineWorker


class ServiceStatus(StrEnum):
    """Where the service stands. LOADING becomes READY or FAILED; READY becomes DRAINING."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What the service tells about the model it runs."""

    name: str
    revision: str  # identity of the weights
    runtime: str  # which runner computes it: "torch" or "onnx"
    device: str
    dtype: str  # of activations and cache
    weights: str  # how they are kept: a dtype or a scheme of `optimize`
    operators: str = "torch"  # whose they are: "native" (ours), "onnxruntime" or "torch"
    tensor_parallel_size: int = 1  # processes that compute it, each a part
    draft_model: str | None = None  # the name of the one that guesses for it


class OtherProcesses(Protocol):
    """What computes the model together with this process (`app.shards`)."""

    @property
    def problem(self) -> str | None:
        """Why they cannot go on, or None."""

    def close(self) -> None:
        """End them all."""


@dataclass(slots=True, kw_only=True)
class Services:
    """The parts of one service. Written on the event loop only, by the lifespan and the server."""

    settings: Settings
    metrics: Metrics
    executor: TextExecutor
    gate: Gate
    clock: Callable[[], float]  # monotonic, in seconds
    started_at: float  # on that clock
    observers: Sequence[RequestObserver] = ()  # who tell of requests: logs, traces
    status: ServiceStatus = ServiceStatus.LOADING
    status_reason: str = "the model is loading"
    failure: BaseException | None = None  # what made the status FAILED
    was_ready: bool = False  # true from the first READY on
    model: ServedModel | None = None
    worker: EngineWorker | None = None
    shards: OtherProcesses | None = None  # other processes that compute the model
    generator: TextGenerator | None = None
    cache: ResponseCache | None = None
    shared_cache: SharedCache | None = None  # None: answers are not shared between replicas
    jobs: JobStore | None = None
    may_resume: bool = False  # whether DRAINING can be undone: an operator asked for it
    has_stuck_thread: bool = False  # closing gave up on a thread that would not end

    def become_ready(self) -> None:
        """The model is loaded; requests are welcome, unless the service is draining already."""
        if self.status is ServiceStatus.LOADING:
            self.status, self.status_reason, self.was_ready = ServiceStatus.READY, "", True

    def become_draining(self, reason: str, *, may_resume: bool = False) -> None:
        """No new requests from here on; those that run may finish."""
        if self.status is not ServiceStatus.FAILED:
            self.status, self.status_reason = ServiceStatus.DRAINING, reason
            self.may_resume = may_resume

    def resume(self) -> None:
        """Take requests again after a drain that may be undone."""
        if self.status is ServiceStatus.DRAINING and self.may_resume:
            self.status, self.status_reason, self.may_resume = ServiceStatus.READY, "", False

    def become_failed(self, error: BaseException) -> None:
        """The service cannot serve, now or later; liveness says so from here on."""
        self.status, self.status_reason = ServiceStatus.FAILED, str(error)
        self.failure = error

    @property
    def engine_problem(self) -> str | None:
        """Why the engine is ill: it died, keeps failing, or hangs in a step. None if it is not."""
        if self.worker is None:
            return None
        if self.shards is not None and self.shards.problem is not None:
            return self.shards.problem
        if not self.worker.is_healthy:
            return "the engine has failed"
        silence = self.worker.seconds_since_heartbeat
        if silence > self.settings.stall_seconds:
            return f"the engine has given no sign of life for {silence:.0f} s"
        return None

    @property
    def num_in_flight(self) -> int:
        """Generations that somebody waits for."""
        return 0 if self.generator is None else self.generator.num_in_flight
