"""The life of one text request: tokenise, look in the caches, submit, follow, let go.

Routes and jobs call `TextGenerator.start` and read the `Subscription` it gives; `answers.py`
presents what comes out. Knows nothing of HTTP. All of it runs on the event loop, save
tokenising, which the text executor does.
"""

import secrets
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from app.access.meter import Meter, Reservation
from app.error_replies import describe
from app.errors import AppError, ServiceUnavailable
from app.generation.adjustments import AdjustmentTranslator
from app.generation.cache import ResponseCache
from app.generation.call_grammars import CallGrammars
from app.generation.completion import Completed
from app.generation.engine_calls import EngineCalls
from app.generation.engine_queue import EngineQueue
from app.generation.event_router import EventRouter
from app.generation.flight import CacheOutcome, Flight, Subscription
from app.generation.judge import Judge
from app.generation.preparation import CacheKey, ModelIdentity, PreparedRequest, Preparer
from app.generation.presentation import Presenter
from app.generation.prompts import PromptReader
from app.generation.recording import record_of
from app.generation.request_limits import RequestLimits
from app.generation.shared_cache.tier import SharedCache
from app.generation.urgency import NO_RULES, UrgencyRules
from app.metrics import Metrics
from app.telemetry.record import RequestRecord, current_request, unique_id
from app.text.codec import TextCodec
from app.text.executor import TextExecutor
from app.text.grammar.compiler import GrammarCompiler
from app.text.request import TextRequest
from decoding.base import FinishReason
from engine.errors import EngineError, QueueTimedOut
from engine.urgency import Urgency
from engine.worker import EngineWorker

if TYPE_CHECKING:  # importing transformers takes seconds, and only its types are needed here
    from transformers import PreTrainedTokenizerBase

_SharedKey = tuple[CacheKey, Urgency]
LIST_PATIENCE_SECONDS = 0.5  # what all texts of a list together may wait for the shared cache
SEED_LIMIT = 2**53  # seeds drawn here survive JSON readers that know only doubles


def draw_seed() -> int:
    """A seed for a request that brings none."""
    return secrets.randbelow(SEED_LIMIT)


@dataclass(slots=True, kw_only=True)
class _Traffic:
    """What goes on now, whoever asked for it. Written by the generators that share it."""

    num_starting: int = 0
    num_open: int = 0
    aborted: str | None = None  # why nothing may start any more


@dataclass(slots=True)
class _Waited:
    """How long the texts of a list have waited for the shared cache."""

    seconds: float = 0.0


class TextGenerator:
    """Runs text requests on one engine. Written to on the event loop only."""

    def __init__(  # noqa: PLR0913  (the parts of the service that it joins)
        self,
        *,
        tokenizer: "PreTrainedTokenizerBase",
        worker: EngineWorker,
        router: EventRouter,
        executor: TextExecutor,
        cache: ResponseCache,
        metrics: Metrics,
        model: ModelIdentity,
        grammars: GrammarCompiler,
        request_limits: RequestLimits,
        eos_token_ids: frozenset[int],
        clock: Callable[[], float],
        shared_cache: SharedCache | None = None,
        is_cache_per_key: bool = True,
        default_guesses: int = 0,
        urgency_rules: UrgencyRules = NO_RULES,
        draw_seed: Callable[[], int] = draw_seed,
    ) -> None:
        self._codec = TextCodec(tokenizer)
        self.presenter = Presenter(
            codec=self._codec,
            model_name=model.name,
            fingerprint=model.fingerprint,
            clock=clock,
        )
        limits = worker.limits
        self._preparer = Preparer(
            codec=self._codec,
            limits=limits,
            model=model,
            translator=AdjustmentTranslator(self._codec, limits.vocab_size),
            calls=CallGrammars(self._codec, grammars),
            default_guesses=default_guesses,
            request_limits=request_limits,
        )
        self.request_limits = request_limits
        self._queue = EngineQueue(worker, clock)
        self.prompts = PromptReader(
            codec=self._codec, executor=executor, context_length=limits.context_length
        )
        self.judge = Judge(
            codec=self._codec,
            preparer=self._preparer,
            executor=executor,
            calls=EngineCalls(worker, router, self._queue),
        )
        self._clock = clock
        self._urgency_rules = urgency_rules
        self._metrics = metrics
        self._worker = worker
        self._router = router
        self._executor = executor
        self._cache = cache
        self._shared_cache = shared_cache
        self._is_cache_per_key = is_cache_per_key
        self._eos_token_ids = eos_token_ids
        self._draw_seed = draw_seed
        self._flights: dict[str, Flight] = {}  # by request id, oldest first
        self._shared: dict[_SharedKey, Flight] = {}  # those that others may join
        self._traffic = _Traffic()
        self._meter: Meter | None = None  # of the key that asks; None: nobody counts
        self._waited: _Waited | None = None  # of the list that asks; None: it is no list

    @property
    def num_in_flight(self) -> int:
        """Requests that are being tokenised, generated, judged or read out."""
        traffic = self._traffic
        return traffic.num_starting + traffic.num_open + self.judge.calls.num_open

    def billed_to(self, meter: Meter) -> "TextGenerator":
        """This generator as one key sees it: its tokens count. All else is the same and shared."""
        billed = copy(self)
        billed._meter = meter
        billed.judge = replace(self.judge, meter=meter)
        return billed

    def for_list(self) -> "TextGenerator":
        """This generator for the texts of one list: waits for other replicas add up to a bound."""
        listed = copy(self)
        listed._waited = _Waited()
        return listed

    async def start(self, request: TextRequest) -> Subscription:
        """Begin to answer a request; once this returns, only the engine can still fail it.

        The caller must close the subscription.

        Raises:
            InvalidRequest: it cannot be served; names the field.
            RequestTooLarge: it would not fit even in an empty engine.
            TextQueueFull, Overloaded, ServiceUnavailable, EngineClosed: not now.
            RateLimited: not this key, and not in this minute.
        """
        received_at = self._clock()
        self._traffic.num_starting += 1
        try:
            self._check_open()
            prepared = await self._prepare(self._hurried(request))
            reservation = await self._reserve(prepared)
            flight, outcome = await self._admit(prepared, received_at, reservation)
        except (AppError, EngineError) as error:
            self._metrics.rejected(describe(error).code)
            raise
        finally:
            self._traffic.num_starting -= 1
        self._traffic.num_open += 1
        self._metrics.cache_lookup(outcome)
        return Subscription(
            prepared,
            flight,
            outcome=outcome,
            received_at=received_at,
            on_close=partial(self._close_one, current_request(), reservation),
        )

    async def prompt_ids(self, request: TextRequest) -> tuple[int, ...]:
        """The tokens that a request's prompt is to the model, tools and all; generates nothing.

        Raises:
            InvalidRequest: it could not be served; names the field.
            TextQueueFull, ServiceUnavailable: not now.
        """
        self._check_open()
        return (await self._prepare(request)).prompt_ids

    def abort_all(self, reason: str) -> None:
        """End every request in flight with an error, and refuse those still to be submitted."""
        self._traffic.aborted = reason
        for flight in list(self._flights.values()):
            flight.fail(ServiceUnavailable(reason))

    async def _prepare(self, request: TextRequest) -> PreparedRequest:
        """Tokenise it: here if that takes less time than to hand it to a thread and back."""
        if request.is_short:
            prepared = self._preparer.prepare(request)
        else:
            prepared = await self._executor.run(partial(self._preparer.prepare, request))
        if self._meter is None or not self._is_cache_per_key:
            return prepared
        return prepared.owned_by(self._meter.key.digest)

    def _check_open(self) -> None:
        if self._traffic.aborted is not None:
            raise ServiceUnavailable(self._traffic.aborted)

    def _hurried(self, request: TextRequest) -> TextRequest:
        """The request with what this server makes of its time limits and priority."""
        urgency = self._urgency_rules.apply(request.urgency)
        return request if urgency == request.urgency else replace(request, urgency=urgency)

    async def _reserve(self, prepared: PreparedRequest) -> Reservation | None:
        """Set tokens of the key aside, more than the answer can take."""
        if self._meter is None:
            return None
        has_length = prepared.request.max_length is not None
        return await self._meter.reserve(
            prepared.max_num_tokens, param="max_length" if has_length else "max_new_tokens"
        )

    async def _admit(
        self, prepared: PreparedRequest, received_at: float, reservation: Reservation | None
    ) -> tuple[Flight, CacheOutcome]:
        try:
            found = await self._ask_others(prepared)
            self._check_open()
            return self._flight_for(prepared, received_at, found)
        except BaseException:  # also when the client goes while another replica's answer is sought
            if reservation is not None:
                reservation.settle(0)
            raise

    async def _ask_others(self, prepared: PreparedRequest) -> Completed | None:
        """What another replica has stored, if nobody here has it or is about to."""
        shared_cache, key = self._shared_cache, prepared.cache_key
        if shared_cache is None or key is None or not prepared.is_determined:
            return None
        if _shared_key(prepared) in self._shared or self._cache.get(key) is not None:
            return None
        waited = self._waited or _Waited()
        if waited.seconds >= LIST_PATIENCE_SECONDS:
            shared_cache.pass_over()
            return None
        began_at = self._clock()
        found = await shared_cache.find(key)
        waited.seconds += self._clock() - began_at
        return found

    def _close_one(
        self,
        record: RequestRecord | None,
        reservation: Reservation | None,
        subscription: Subscription,
    ) -> None:
        self._traffic.num_open -= 1
        if reservation is not None:  # what another request's generation gave costs nothing
            flight = subscription.flight  # who asked for it may have gone before its end
            is_payer = subscription.outcome is not CacheOutcome.HIT or flight.num_billed > 0
            reservation.settle(flight.bill() if is_payer else 0)
        if record is not None:
            model = self.presenter.model_name
            record.note(record_of(subscription, model=model, ended_at=self._clock()))

    def _flight_for(
        self, prepared: PreparedRequest, received_at: float, found: Completed | None
    ) -> tuple[Flight, CacheOutcome]:
        """Who answers: a generation under way, a finished one of ours or of others, or a new one.

        Nothing may be awaited in here: two who ask for the same would both begin it.
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
        self._flights[request_id] = flight
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
            if self._shared_cache is not None and flight.prepared.is_determined:
                self._shared_cache.keep(key, flight.completed)
        self._count(flight)

    def _forget(self, request_id: str) -> None:
        self._router.unregister(request_id)
        self._flights.pop(request_id, None)

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
