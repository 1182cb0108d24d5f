"""All generations under way: who asks for the same shares one, and what they give is kept.

`TextGenerator` asks it for the flight that answers a request. It submits to the engine, tells
flights apart that others may join, stores what they gave, and counts it. Runs on the event loop.
"""

import secrets
from collections.abc import Callable
from functools import partial

from app.errors import AppError, ServiceUnavailable
from app.generation.cache import ResponseCache
from app.generation.cache_key import CacheKey
from app.generation.completion import Completed
from app.generation.engine_queue import EngineQueue
from app.generation.event_router import EventRouter
from app.generation.flight import Flight
from app.generation.prepared_request import PreparedRequest
from app.generation.shared_cache.tier import SharedCache
from app.generation.subscription import CacheOutcome
from app.metrics import Metrics
from app.telemetry.record import unique_id
from app.text.codec import TextCodec
from decoding.base import FinishReason
from engine.errors import EngineError, QueueTimedOut
from engine.urgency import Urgency
from engine.worker import EngineWorker

_SharedKey = tuple[CacheKey, Urgency]
SEED_LIMIT = 2**53  # seeds drawn here survive JSON readers that know only doubles


def draw_seed() -> int:
    """A seed for a request that brings none."""
    return secrets.randbelow(SEED_LIMIT)


class Flights:
    """Starts flights and ends them. Written to on the event loop only."""

    def __init__(  # noqa: PLR0913  (the parts of the service that a generation touches)
        self,
        *,
        codec: TextCodec,
        worker: EngineWorker,
        queue: EngineQueue,
        router: EventRouter,
        cache: ResponseCache,
        shared_cache: SharedCache | None,
        metrics: Metrics,
        eos_token_ids: frozenset[int],
        clock: Callable[[], float],
        draw_seed: Callable[[], int],
    ) -> None:
        self._codec = codec
        self._worker = worker
        self._queue = queue
        self._router = router
        self._cache = cache
        self._shared_cache = shared_cache
        self._metrics = metrics
        self._eos_token_ids = eos_token_ids
        self._clock = clock
        self._draw_seed = draw_seed
        self._all: dict[str, Flight] = {}  # by request id, oldest first
        self._shared: dict[_SharedKey, Flight] = {}  # those that others may join
        self._aborted: str | None = None  # why nothing may start any more

    def check_open(self) -> None:
        """Refuse to start anything once all was aborted.

        Raises:
            ServiceUnavailable: with the reason.
        """
        if self._aborted is not None:
            raise ServiceUnavailable(self._aborted)

    def abort_all(self, reason: str) -> None:
        """End every flight with an error, and refuse those still to be started."""
        self._aborted = reason
        for flight in list(self._all.values()):
            flight.fail(ServiceUnavailable(reason))

    def has_answer(self, prepared: PreparedRequest) -> bool:
        """Whether a flight or the response cache answers a request, now or soon."""
        key = prepared.cache_key
        is_under_way = _shared_key(prepared) in self._shared
        return is_under_way or (key is not None and self._cache.get(key) is not None)

    def find_or_start(
        self, prepared: PreparedRequest, received_at: float, found: Completed | None
    ) -> tuple[Flight, CacheOutcome]:
        """Who answers: a generation under way, a finished one of ours or of others, or a new one.

        Nothing may be awaited in here: two who ask for the same would both begin it.

        Args:
            prepared: the request.
            received_at: when it came, on the clock.
            found: what another replica has stored for it.

        Raises:
            RequestTooLarge, Overloaded, EngineClosed: the engine does not take it.
        """
        shared_key = _shared_key(prepared)
        if prepared.cache_key is None or shared_key is None:
            return self._take_off(prepared, received_at), CacheOutcome.BYPASS
        if shared_key in self._shared:
            return self._shared[shared_key], CacheOutcome.HIT
        completed = self._cache.get(prepared.cache_key)
        if completed is None and found is not None:
            self._cache.put(prepared.cache_key, found)
            completed = found
        if completed is not None:
            return self._new_flight(prepared, "").replay(completed), CacheOutcome.HIT
        flight = self._take_off(prepared, received_at)
        self._shared[shared_key] = flight
        return flight, CacheOutcome.MISS

    def _take_off(self, prepared: PreparedRequest, received_at: float) -> Flight:
        """Submit a generation of its own to the engine."""
        request_id = unique_id()
        flight = self._new_flight(prepared, request_id)
        self._router.register(request_id, flight)
        self._all[request_id] = flight
        try:
            self._queue.submit(
                prepared.as_generation(
                    request_id=request_id,
                    seed=flight.seed,
                    urgency=prepared.request.urgency.after(self._clock() - received_at),
                    eos_token_ids=self._eos_token_ids,
                )
            )
        except (AppError, EngineError):
            self._forget(request_id)
            raise
        return flight

    def _new_flight(self, prepared: PreparedRequest, request_id: str) -> Flight:
        request = prepared.request
        seed = request.seed
        if seed is None:
            seed = 0 if request.strategy.is_deterministic else self._draw_seed()
        return Flight(
            prepared,
            codec=self._codec,
            seed=seed,
            clock=self._clock,
            on_end=partial(self._land, request_id),
        )

    def _land(self, request_id: str, flight: Flight) -> None:
        """A flight has ended: keep what it gave, count it, free what it held."""
        self._forget(request_id)
        self._queue.note_end()
        key, shared_key = flight.prepared.cache_key, _shared_key(flight.prepared)
        if shared_key is not None and self._shared.get(shared_key) is flight:
            del self._shared[shared_key]
        if flight.completed is None and not isinstance(flight.error, EngineError):
            self._worker.cancel(request_id)
            self._metrics.cancelled()
        elif flight.completed is not None and key is not None and not _is_cut_short(flight):
            self._cache.put(key, flight.completed)
            if self._shared_cache is not None and flight.prepared.request.is_determined:
                self._shared_cache.keep(key, flight.completed)
        self._count(flight)

    def _forget(self, request_id: str) -> None:
        self._router.unregister(request_id)
        self._all.pop(request_id, None)

    def _count(self, flight: Flight) -> None:
        if flight.first_token_at is not None:
            self._metrics.first_token(flight.first_token_at - flight.submitted_at)
        for seconds in flight.inter_token_seconds:
            self._metrics.inter_token(seconds)
        strategy = flight.prepared.request.strategy.name
        if flight.completed is None:
            if isinstance(flight.error, EngineError):
                is_late = isinstance(flight.error, QueueTimedOut)
                self._metrics.finished(strategy, "queue_timeout" if is_late else "error")
            return
        timings, sequences = flight.completed.timings, flight.completed.sequences
        self._metrics.queue_time(timings.queue_seconds)
        self._metrics.inference(timings.prefill_seconds + timings.decode_seconds)
        lengths = [len(sequence.token_ids) for sequence in sequences]
        self._metrics.tokens(prompt=len(flight.prepared.prompt_ids), generated=sum(lengths))
        for sequence in sequences:
            self._metrics.finished(strategy, sequence.finish_reason)
        waited = self._clock() - flight.submitted_at
        self._metrics.answered(strategy, seconds=waited, num_tokens=sum(lengths))


def _shared_key(prepared: PreparedRequest) -> _SharedKey | None:
    """Who shares a generation asks for the same tokens in the same time and as urgently."""
    key = prepared.cache_key
    return None if key is None else (key, prepared.request.urgency)


def _is_cut_short(flight: Flight) -> bool:
    sequences = () if flight.completed is None else flight.completed.sequences
    return any(each.finish_reason is FinishReason.TIMEOUT for each in sequences)
