"""The engine: one step at a time, plan -> forward -> choose -> commit.

Runs on one thread and is not thread-safe on purpose; `engine.worker` puts a thread around it.
Knows token ids only: no text, no HTTP, no metrics library.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from decoding.base import Decision, Hypothesis, has_independent_rows
from decoding.errors import InvalidParameter
from decoding.logits import Logits
from engine.choose import Found, find_for_groups
from engine.config import EngineConfig
from engine.decide import cut_short, decide
from engine.draft_model import DraftModel
from engine.errors import (
    ConstraintNotMet,
    DecodingFailed,
    EngineError,
    QueueTimedOut,
    RequestRefused,
    RequestTooLarge,
)
from engine.hidden_states import HiddenStates
from engine.messages import (
    EngineLimits,
    EngineStats,
    Event,
    GenerationRequest,
    RequestFailed,
    RequestFinished,
    Timings,
    TokenEvent,
)
from engine.plan import Plan
from engine.runner import Runner
from engine.scheduler import Scheduler
from engine.sequence import Group, num_reserved
from engine.speculate import decide_ahead

logger = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one runner. Written to by one thread only."""

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        *,
        draft: Runner | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put an engine around loaded runners: the served model's and, if any, its draft's."""
        self._runner = runner
        self._config = config
        self._clock = clock
        self._draft_model = None
        if draft is not None:
            self._draft_model = DraftModel(
                draft,
                max_step_tokens=config.max_step_tokens,
                vocab_size=runner.vocab_size,
                clock=clock,
            )
        self._scheduler = Scheduler(
            cache=runner.cache,
            config=config,
            vocab_size=runner.vocab_size,
            clock=clock,
            depth=runner.depth,
            guesser=self._draft_model,
        )
        self._hidden_states = HiddenStates()
        self._totals = _Totals()
        self.snapshot = self.stats()  # replaced, never changed: any thread may read it

    @property
    def limits(self) -> EngineLimits:
        """What a request must fit into."""
        return EngineLimits(
            context_length=self._runner.context_length,
            vocab_size=self._runner.vocab_size,
            max_rows=self._config.max_rows,
            max_cached_tokens=self._runner.cache.max_tokens,
            block_size=self._runner.cache.block_size,
            is_deterministic=self._runner.is_deterministic,
            has_all_logits=self._runner.has_all_logits,
            has_draft_model=self._draft_model is not None,
            has_hidden_states=self._runner.has_hidden_states,
            depth=self._runner.depth,
        )

    @property
    def num_waiting(self) -> int:
        """Requests that have not been admitted, or were preempted. Any thread may read it."""
        return len(self._scheduler.waiting)

    @property
    def now(self) -> float:
        """Seconds on its clock. Any thread may read it."""
        return self._clock()

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._scheduler.running or self._scheduler.waiting)

    def check(self, request: GenerationRequest) -> None:
        """Refuse a request that could never run.

        Raises:
            RequestTooLarge: with the numbers that do not fit.
            RequestRefused: it wants drafts or scores that are not to be had here.
        """
        num_rows = request.num_rows
        if num_rows > self._config.max_rows:
            raise RequestTooLarge(
                f"{num_rows} sequences at once exceed the {self._config.max_rows} rows of a step; "
                "ask for fewer"
            )
        self._check_logits(request)
        num_tokens = request.max_num_tokens
        if num_tokens > self._runner.context_length:
            raise RequestTooLarge(
                f"{num_tokens - request.max_new_tokens} prompt tokens and {request.max_new_tokens} "
                f"new ones exceed the model's context of {self._runner.context_length} tokens; ask "
                "for fewer"
            )
        cache = self._runner.cache
        needed = cache.max_tokens_of(num_rows, num_tokens)
        if needed > cache.max_tokens:
            raise RequestTooLarge(
                f"{num_rows} sequences of {num_tokens} tokens need {needed} tokens of cache; "
                f"it holds {cache.max_tokens}; ask for fewer sequences, or for fewer new tokens"
            )

    def _check_logits(self, request: GenerationRequest) -> None:
        """Refuse what needs logits after several tokens of a row where there are none."""
        if request.takes_drafts and not has_independent_rows(request.strategy):
            raise RequestRefused(f"strategy {request.strategy.name} cannot be sped up by drafts")
        if request.takes_drafts and request.guidance is not None:
            raise RequestRefused("a guided request cannot be sped up by drafts")
        if request.num_speculative_tokens > 0 and self._draft_model is None:
            raise RequestRefused("there is no draft model")
        if request.needs_hidden_states and not self._runner.has_hidden_states:
            raise RequestRefused("this runtime gives no hidden states")
        if self._runner.has_all_logits:
            return
        if request.takes_drafts:
            raise RequestRefused("this runtime decides one token of a row at a time: no drafts")
        if request.scored_from is not None:
            raise RequestRefused("this runtime gives no log-probabilities of prompt tokens")

    def add(self, request: GenerationRequest, submitted_at: float | None = None) -> list[Event]:
        """Queue a request that `check` has let pass; its failure, if its strategy cannot start.

        It was submitted now, or at the given time on the engine's clock.
        """
        try:
            self._scheduler.add(request, self.now if submitted_at is None else submitted_at)
        except InvalidParameter as error:
            return [self._refuse(request, ConstraintNotMet(error.message, field=error.field))]
        except Exception as error:
            name, request_id = request.strategy.name, request.request_id
            logger.exception("request %s: strategy %s cannot start", request_id, name)
            reason = f"strategy {name} cannot start: {type(error).__name__}"
            return [self._refuse(request, DecodingFailed(reason))]
        return []

    def cancel(self, request_id: str) -> None:
        """Drop a request wherever it is; its room is free before the next step."""
        group = self._scheduler.find(request_id)
        if group is not None:
            self._scheduler.drop(group)
            self._totals.num_cancellations += 1

    def end_overdue(self) -> list[Event]:
        """End every request whose time is up: with what it has, or an error if it never began."""
        events: list[Event] = []
        for group in self._scheduler.overdue():
            events += self._give_up(group) if group.started_at is None else self._cut_short(group)
        return events

    def step(self) -> list[Event]:
        """Advance every scheduled group by one model call."""
        plan = self._scheduler.plan()
        if plan is None:
            return []
        self.snapshot = self.stats()  # a step may be long: what it runs is not waiting any more
        said = self._forward(plan)
        self._hidden_states.note(plan, said)
        outcomes = self._choose(plan, said)
        return self._commit(plan, outcomes)

    def _give_up(self, group: Group) -> list[Event]:
        self._scheduler.drop(group)
        self._totals.num_queue_timeouts += 1
        return [_failed(group, QueueTimedOut("The request was not begun in its time; try again."))]

    def _cut_short(self, group: Group) -> list[Event]:
        outcome = cut_short(group, self._runner.vocab_size)
        if isinstance(outcome, DecodingFailed):
            return [self._fail(group, outcome)]
        self._scheduler.drop(group)
        self._totals.num_timeouts += 1
        return self._report(group, outcome)

    def fail_running(self, error: EngineError) -> list[Event]:
        """Give up all running groups after a failed step; waiting ones stay queued."""
        return [self._fail(group, error) for group in list(self._scheduler.running)]

    def fail_all(self, error: EngineError) -> list[Event]:
        """Give up everything, when the engine closes."""
        waiting = list(self._scheduler.waiting)
        return self.fail_running(error) + [self._fail(group, error) for group in waiting]

    def stats(self) -> EngineStats:
        """A snapshot of gauges and totals."""
        running = self._scheduler.running
        return EngineStats(
            num_running_sequences=sum(len(group.rows) for group in running),
            num_running_requests=len(running),
            num_waiting_requests=len(self._scheduler.waiting),
            num_waiting_sequences=num_reserved(self._scheduler.waiting),
            num_cached_tokens=self._runner.cache.num_used_tokens,
            max_cached_tokens=self._runner.cache.max_tokens,
            num_steps=self._totals.num_steps,
            num_step_rows=self._totals.num_step_rows,
            num_step_tokens=self._totals.num_step_tokens,
            num_prompt_tokens=self._totals.num_prompt_tokens,
            num_prompt_tokens_from_cache=self._totals.num_prompt_tokens_from_cache,
            num_generated_tokens=self._totals.num_generated_tokens,
            num_draft_tokens=self._totals.num_draft_tokens,
            num_accepted_draft_tokens=self._totals.num_accepted_draft_tokens,
            num_preemptions=self._scheduler.num_preemptions,
            num_cancellations=self._totals.num_cancellations,
            num_failures=self._totals.num_failures,
            num_queue_timeouts=self._totals.num_queue_timeouts,
            num_timeouts=self._totals.num_timeouts,
            forward_seconds=self._totals.forward_seconds,
            draft_seconds=0.0 if self._draft_model is None else self._draft_model.seconds,
            device_memory_bytes=self._runner.device_memory_bytes,
        )

    def _forward(self, plan: Plan) -> Logits:
        started = self._clock()
        said = self._runner.forward(plan)
        self._totals.forward_seconds += self._clock() - started
        self._totals.num_steps += 1
        self._totals.num_step_rows += len(plan.rows)
        self._totals.num_step_tokens += plan.num_tokens
        return said

    def _choose(self, plan: Plan, said: Logits) -> list[Decision | DecodingFailed]:
        """Each stepping group's decision, or why it has none."""
        outcomes: list[Decision | DecodingFailed] = []
        for group, found in zip(plan.stepping, find_for_groups(plan, said), strict=True):
            if isinstance(found, DecodingFailed):
                outcomes.append(found)
            else:
                outcomes.append(self._decide(group, found))
        return outcomes

    def _decide(self, group: Group, found: Found) -> Decision | DecodingFailed:
        """The decision of a group; candidates come for each row, after each of its drafts."""
        vocab_size = self._runner.vocab_size
        num_drafts = sum(len(row.draft_ids) for row in group.rows)
        if not num_drafts:
            return decide(group, [first for (first,) in found], vocab_size)
        decision = decide_ahead(group, found, vocab_size)
        self._totals.num_draft_tokens += num_drafts
        if isinstance(decision, Decision):
            num_chosen = sum(len(emission.token_ids) for emission in decision.emissions)
            self._totals.num_accepted_draft_tokens += num_chosen - len(group.rows)
        return decision

    def _commit(self, plan: Plan, outcomes: Sequence[Decision | DecodingFailed]) -> list[Event]:
        """Write down what happened and say it; a group without a decision ends here."""
        for group in plan.stepping:
            if group.first_token_at is None:
                self._totals.num_prompt_tokens += len(group.request.prompt_ids)
                self._totals.num_prompt_tokens_from_cache += group.num_cached_tokens
        decisions = [
            outcome if isinstance(outcome, Decision) else Decision() for outcome in outcomes
        ]
        before = [group.rows for group in plan.stepping]
        self._scheduler.commit(plan, decisions)
        for group, rows, decision in zip(plan.stepping, before, decisions, strict=True):
            self._hidden_states.follow(group, rows, decision.live)
        events: list[Event] = []
        for group, outcome in zip(plan.stepping, outcomes, strict=True):
            if isinstance(outcome, DecodingFailed):
                self._totals.num_failures += 1
                events.append(_failed(group, outcome))
            else:
                events.extend(self._report(group, outcome))
        return events

    def _report(self, group: Group, decision: Decision) -> list[Event]:
        request_id = group.request.request_id
        events: list[Event] = []
        for emission in decision.emissions:
            self._totals.num_generated_tokens += len(emission.token_ids)
            events.append(
                TokenEvent(
                    request_id=request_id,
                    index=emission.index,
                    token_ids=emission.token_ids,
                    logprobs=emission.logprobs,
                    alternatives=group.observed.next_alternatives(
                        emission.index, emission.token_ids
                    )
                    if group.request.num_alternatives
                    else (),
                )
            )
        if not decision.live:
            events.append(self._finished(group, decision.results))
        return events

    def _finished(self, group: Group, results: tuple[Hypothesis, ...]) -> RequestFinished:
        """The answer, with whatever else its request asked to see."""
        has_alternatives = group.request.num_alternatives > 0
        return RequestFinished(
            request_id=group.request.request_id,
            sequences=results,
            timings=self._timings(group),
            alternatives=tuple(
                group.observed.alternatives_of(result.token_ids)
                for result in (results if has_alternatives else ())
            ),
            prompt_scores=group.observed.prompt_scores,
            trace=None if group.tracer is None else group.tracer.trace(results),
        )

    def _timings(self, group: Group) -> Timings:
        assert group.started_at is not None, "a group that has an answer was started"
        now = self._clock()
        first_token_at = now if group.first_token_at is None else group.first_token_at
        return Timings(
            queue_seconds=group.started_at - group.submitted_at,
            prefill_seconds=first_token_at - group.started_at,
            decode_seconds=now - first_token_at,
            num_cached_tokens=group.num_cached_tokens,
            num_preemptions=group.num_preemptions,
        )

    def _refuse(self, request: GenerationRequest, error: DecodingFailed) -> Event:
        """Of a request that never was queued."""
        self._totals.num_failures += 1
        return RequestFailed(request_id=request.request_id, error=error)

    def _fail(self, group: Group, error: EngineError) -> Event:
        self._scheduler.drop(group)
        self._totals.num_failures += 1
        return _failed(group, error)


@dataclass(slots=True)
class _Totals:
    """Running totals since the start."""

    num_steps: int = 0
    num_step_rows: int = 0
    num_step_tokens: int = 0
    num_prompt_tokens: int = 0
    num_prompt_tokens_from_cache: int = 0
    num_generated_tokens: int = 0
    num_draft_tokens: int = 0
    num_accepted_draft_tokens: int = 0
    num_cancellations: int = 0
    num_failures: int = 0
    num_queue_timeouts: int = 0
    num_timeouts: int = 0
    forward_seconds: float = 0.0


def _failed(group: Group, error: EngineError) -> RequestFailed:
    return RequestFailed(request_id=group.request.request_id, error=error)
