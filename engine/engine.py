"""The engine: one step at a time, plan -> forward -> choose -> commit.

Runs on one thread and is not thread-safe on purpose; `engine.worker` puts a thread around it.
Knows token ids only: no text, no HTTP, no metrics library.
"""

import logging
import time
from collections.abc import Callable, Sequence

from decoding.base import Decision
from decoding.errors import InvalidParameter
from decoding.logits import Logits
from engine.choose import Found, find_for_groups
from engine.config import EngineConfig
from engine.decide import cut_short, decide
from engine.draft_model import DraftModel
from engine.errors import ConstraintNotMet, DecodingFailed, EngineError, QueueTimedOut
from engine.hidden_states import HiddenStates
from engine.messages import EngineLimits, EngineStats, Event, GenerationRequest, RequestFailed
from engine.plan import Plan
from engine.report import failed, finished, token_events
from engine.request_check import check_request
from engine.runner import Runner
from engine.scheduler import Scheduler
from engine.sequence import Group
from engine.speculate import decide_ahead
from engine.totals import Totals

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
        self._totals = Totals()
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
        check_request(request, self.limits, self._runner.cache)

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

    def fail_running(self, error: EngineError) -> list[Event]:
        """Give up all running groups after a failed step; waiting ones stay queued."""
        return [self._fail(group, error) for group in list(self._scheduler.running)]

    def fail_all(self, error: EngineError) -> list[Event]:
        """Give up everything, when the engine closes."""
        waiting = list(self._scheduler.waiting)
        return self.fail_running(error) + [self._fail(group, error) for group in waiting]

    def stats(self) -> EngineStats:
        """A snapshot of gauges and totals."""
        draft_seconds = 0.0 if self._draft_model is None else self._draft_model.seconds
        return self._totals.stats(self._scheduler, self._runner, draft_seconds)

    def _give_up(self, group: Group) -> list[Event]:
        self._scheduler.drop(group)
        self._totals.num_queue_timeouts += 1
        return [failed(group, QueueTimedOut("The request was not begun in its time; try again."))]

    def _cut_short(self, group: Group) -> list[Event]:
        outcome = cut_short(group, self._runner.vocab_size)
        if isinstance(outcome, DecodingFailed):
            return [self._fail(group, outcome)]
        self._scheduler.drop(group)
        self._totals.num_timeouts += 1
        return self._report(group, outcome)

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
                events.append(failed(group, outcome))
            else:
                events.extend(self._report(group, outcome))
        return events

    def _report(self, group: Group, decision: Decision) -> list[Event]:
        events: list[Event] = [*token_events(group, decision.emissions)]
        self._totals.num_generated_tokens += sum(
            len(emission.token_ids) for emission in decision.emissions
        )
        if not decision.live:
            events.append(finished(group, decision.results, self._clock()))
        return events

    def _refuse(self, request: GenerationRequest, error: DecodingFailed) -> Event:
        """Of a request that never was queued."""
        self._totals.num_failures += 1
        return RequestFailed(request_id=request.request_id, error=error)

    def _fail(self, group: Group, error: EngineError) -> Event:
        self._scheduler.drop(group)
        self._totals.num_failures += 1
        return failed(group, error)
