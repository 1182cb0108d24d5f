"""The life of one text request: tokenise, look in the caches, submit, follow, let go.

Routes and jobs call `TextGenerator.start` and read the `Subscription` it gives; `answers.py`
presents what comes out. Knows nothing of HTTP. All of it runs on the event loop, save
tokenising, which the text executor does.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from app.access.meter import Meter, Reservation
from app.error_replies import describe
from app.errors import AppError
from app.generation.adjustments import AdjustmentTranslator
from app.generation.cache import ResponseCache
from app.generation.cache_key import ModelIdentity
from app.generation.call_grammars import CallGrammars
from app.generation.completion import Completed
from app.generation.engine_calls import EngineCalls
from app.generation.engine_queue import EngineQueue
from app.generation.event_router import EventRouter
from app.generation.flight import Flight
from app.generation.flights import Flights, draw_seed
from app.generation.judge import Judge
from app.generation.model_fit import ModelFit
from app.generation.preparation import Preparer
from app.generation.prepared_request import PreparedRequest
from app.generation.presentation import Presenter
from app.generation.prompts import PromptReader
from app.generation.recording import record_of
from app.generation.request_limits import RequestLimits
from app.generation.shared_cache.tier import SharedCache
from app.generation.subscription import CacheOutcome, Subscription
from app.generation.urgency import NO_RULES, UrgencyRules
from app.metrics import Metrics
from app.telemetry.record import RequestRecord, current_request
from app.text.codec import TextCodec
from app.text.executor import TextExecutor
from app.text.grammar.compiler import GrammarCompiler
from app.text.request import TextRequest
from engine.errors import EngineError
from engine.worker import EngineWorker

if TYPE_CHECKING:  # importing transformers takes seconds, and only its types are needed here
    from transformers import PreTrainedTokenizerBase

LIST_PATIENCE_SECONDS = 0.5  # what all texts of a list together may wait for the shared cache


@dataclass(slots=True, kw_only=True)
class _Traffic:
    """What goes on now, whoever asked for it. Written by the generators that share it."""

    num_starting: int = 0
    num_open: int = 0


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
            fit=ModelFit(limits=limits, request_limits=request_limits),
            model=model,
            translator=AdjustmentTranslator(self._codec, limits.vocab_size),
            calls=CallGrammars(self._codec, grammars),
            default_guesses=default_guesses,
        )
        self.request_limits = request_limits
        queue = EngineQueue(worker, clock)
        self._flights = Flights(
            codec=self._codec,
            worker=worker,
            queue=queue,
            router=router,
            cache=cache,
            shared_cache=shared_cache,
            metrics=metrics,
            eos_token_ids=eos_token_ids,
            clock=clock,
            draw_seed=draw_seed,
        )
        self.prompts = PromptReader(
            codec=self._codec, executor=executor, context_length=limits.context_length
        )
        self.judge = Judge(
            codec=self._codec,
            preparer=self._preparer,
            executor=executor,
            calls=EngineCalls(worker, router, queue),
        )
        self._clock = clock
        self._urgency_rules = urgency_rules
        self._metrics = metrics
        self._executor = executor
        self._shared_cache = shared_cache
        self._is_cache_per_key = is_cache_per_key
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
            self._flights.check_open()
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
        self._flights.check_open()
        return (await self._prepare(request)).prompt_ids

    def abort_all(self, reason: str) -> None:
        """End every request in flight with an error, and refuse those still to be submitted."""
        self._flights.abort_all(reason)

    async def _prepare(self, request: TextRequest) -> PreparedRequest:
        """Tokenise it: here if that takes less time than to hand it to a thread and back."""
        if request.is_short:
            prepared = self._preparer.prepare(request)
        else:
            prepared = await self._executor.run(partial(self._preparer.prepare, request))
        if self._meter is None or not self._is_cache_per_key:
            return prepared
        return prepared.owned_by(self._meter.key.digest)

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
            self._flights.check_open()
            return self._flights.find_or_start(prepared, received_at, found)
        except BaseException:  # also when the client goes while another replica's answer is sought
            if reservation is not None:
                reservation.settle(0)
            raise

    async def _ask_others(self, prepared: PreparedRequest) -> Completed | None:
        """What another replica has stored, if nobody here has it or is about to."""
        shared_cache, key = self._shared_cache, prepared.cache_key
        if shared_cache is None or key is None or not prepared.request.is_determined:
            return None
        if self._flights.has_answer(prepared):
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
