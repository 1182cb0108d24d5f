"""Who runs, who waits, who is preempted. Arithmetic on integers; no torch, no clock of its own.

The engine calls `plan` before each step and `commit` after it; `add` and `drop` come between.
Groups have an order: by arrival, where each step of priority counts as having come so many seconds
later. So an urgent request goes ahead, and no stream of urgent ones holds another up for ever.
First in order, always: decoding groups get their tokens before any prompt, prompts are computed in
chunks with what is left of the step's budget, waiting groups are admitted without overtaking, and
when the cache is full the last running group gives up its room and is computed again later; nobody
gives it up for one who waits. It is the only writer of groups and sequences.
"""

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from decoding.adjuster import compile_adjustments
from decoding.base import Continuation, Decision, ModelDepth
from engine.config import EngineConfig
from engine.decide import checked_ask
from engine.drafting import Drafting, Guesser
from engine.kv_cache import KVCache
from engine.messages import GenerationRequest
from engine.open_plan import OpenPlan
from engine.plan import Plan
from engine.sequence import Group, first_row, fork, num_reserved
from engine.sequence import Sequence as Row
from engine.tracer import Tracer


class Scheduler:
    """Plans steps over running groups and the queue of waiting ones, both in their order."""

    def __init__(
        self,
        *,
        cache: KVCache,
        config: EngineConfig,
        vocab_size: int,
        clock: Callable[[], float],
        depth: ModelDepth | None = None,
        guesser: Guesser | None = None,
    ) -> None:
        self._cache = cache
        self._drafting = Drafting(cache, guesser)
        self._vocab_size = vocab_size
        self._depth = depth
        self._config = config
        self._clock = clock
        self._arrivals = count()
        self._sequence_ids = count()
        self.waiting: list[Group] = []
        self.running: list[Group] = []
        self.num_preemptions = 0

    def add(self, request: GenerationRequest, submitted_at: float) -> None:
        """Queue a request that fits the engine's limits; a strategy that raises is not queued."""
        task = replace(request.task, depth=self._depth)
        decoder = request.strategy.start(task)
        delay = request.urgency.priority * self._config.seconds_per_priority
        group = Group(
            request=request,
            decoder=decoder,
            ask=checked_ask(
                decoder.ask, num_rows=1, vocab_size=self._vocab_size, depth=self._depth
            ),
            depth=self._depth,
            adjuster=compile_adjustments(request.adjustments, task),
            order=(submitted_at + delay, next(self._arrivals)),
            submitted_at=submitted_at,
            rows=first_row(request, self._sequence_ids),
            tracer=None if request.trace is None else Tracer(request.trace, task),
        )
        insort(self.waiting, group, key=_order)

    def find(self, request_id: str) -> Group | None:
        """The group of a request that has not ended."""
        for group in (*self.running, *self.waiting):
            if group.request.request_id == request_id:
                return group
        return None

    def drop(self, group: Group) -> None:
        """End a group, wherever it is, and free its room."""
        for row in group.rows:
            self._release(row)
        if group in self.running:
            self.running.remove(group)
        else:
            self.waiting.remove(group)

    def overdue(self) -> list[Group]:
        """Groups that have not begun, or not ended, in the time that they may take."""
        limits = [
            (limit, group)
            for group in (*self.running, *self.waiting)
            if (limit := group.time_limit) is not None
        ]
        now = self._clock() if limits else 0.0
        return [group for limit, group in limits if limit <= now]

    def plan(self) -> Plan | None:
        """The next step, or None if there is nothing to do."""
        step = OpenPlan(self._config.max_step_tokens, self._cache.alignment)
        for group in [group for group in self.running if group.is_decoding]:
            if group in self.running:  # not preempted by one before it meanwhile
                self._plan_running(group, step)
        for group in [group for group in self.running if not group.is_decoding]:
            if group in self.running:
                self._plan_running(group, step)
        if not step.is_short_of_room:
            self._admit(step)
            self._draft(step)
        return step.closed()

    def commit(self, plan: Plan, decisions: Sequence[Decision]) -> None:
        """Record what a step computed and what each stepping group decided, in plan order."""
        for planned in plan.rows:
            row = planned.sequence
            row.num_computed = min(planned.end, row.num_tokens)  # of drafts nothing is known yet
            self._cache.mark_computed(row.id, row.num_computed, row.tokens_between)
        for group, decision in zip(plan.stepping, decisions, strict=True):
            if group.first_token_at is None:
                group.first_token_at = self._clock()
            if decision.live:
                self._continue(group, decision.live)
            else:
                self.drop(group)

    def _plan_running(self, group: Group, step: OpenPlan) -> None:
        """Plan a running group's next tokens, preempting those after it if the cache is full."""
        wanted = step.ranges(group)
        for row, start, end in wanted:
            while not self._cache.reserve(row.id, start, end):
                step.is_short_of_room = True
                victim = self._last_after(group, step)
                if victim is None:
                    if group.is_decoding:
                        self._preempt(group)
                    return
                self._preempt(victim)
        step.take(group, wanted)

    def _last_after(self, group: Group, step: OpenPlan) -> Group | None:
        for candidate in reversed(self.running):
            if candidate.order <= group.order:
                return None
            if candidate not in step.planned:
                return candidate
        return None

    def _preempt(self, group: Group) -> None:
        """Take a group's room away; it waits in its place in the order to be computed again."""
        for row in group.rows:
            self._release(row)
        for row in group.held:
            row.num_computed = 0
        self.running.remove(group)
        group.num_preemptions += 1
        self.num_preemptions += 1
        insort(self.waiting, group, key=_order)

    def _admit(self, step: OpenPlan) -> None:
        """Start waiting groups in order while rows, room and budget last."""
        while self.waiting and step.budget > 0:
            group = self.waiting[0]
            free_rows = self._config.max_rows - num_reserved(self.running)
            if group.num_reserved_rows > free_rows or not self._open(group):
                return  # nobody overtakes
            self.waiting.pop(0)
            insort(self.running, group, key=_order)
            if group.started_at is None:
                group.started_at = self._clock()
                group.num_cached_tokens = group.rows[0].num_computed
            self._plan_running(group, step)

    def _draft(self, step: OpenPlan) -> None:
        """Let decoding rows carry guesses, for what is left of the budget and the cache."""
        for row, drafts in self._drafting.draft(step.stepping, step.budget):
            step.extend(row, drafts)

    def _open(self, group: Group) -> bool:
        """Adopt known prefixes; go on only if all the rest fits, with a block a row to spare."""
        if not self._cache.can_preempt and not self._fits_to_its_end(group):
            return False
        salt, scored_from = group.request.cache_salt, group.request.scored_from
        for row in group.held:
            # What is to be scored must be computed, the token before it included.
            known = row.token_ids if scored_from is None else row.token_ids[:scored_from]
            known = [] if group.request.needs_hidden_states else known
            row.num_computed = self._cache.match_prefix(row.id, known, salt)
        spare = group.num_reserved_rows * self._config.block_size
        if self._cache.can_reserve(group.num_remaining + spare) or not self.running:
            return True
        for row in group.held:
            self._cache.release(row.id)
            row.num_computed = 0
        return False

    def _fits_to_its_end(self, group: Group) -> bool:
        """Whether there is room even if this group and all running ones grow as far as they may."""
        promised = sum(
            self._cache.max_tokens_of(member.num_reserved_rows, member.request.max_num_tokens)
            for member in (*self.running, group)
        )
        return promised <= self._cache.max_tokens

    def _continue(self, group: Group, live: Sequence[Continuation]) -> None:
        """Give the group the rows of its next step; a parent's last child takes over its place."""
        last_child = {continuation.parent: at for at, continuation in enumerate(live)}
        for parent, row in enumerate(group.rows):
            if parent not in last_child:  # first, so that no more rows are held than announced
                self._release(row)
        rows = []
        for at, continuation in enumerate(live):
            row = group.rows[continuation.parent]
            if last_child[continuation.parent] != at:
                row = self._fork(row)
            rows.append(row)
        for row, continuation in zip(rows, live, strict=True):
            row.index = continuation.index
            row.draft_ids = []
            row.num_computed += len(continuation.before)
            for token_id, logprob in continuation.before:
                row.generated_ids.append(token_id)
                row.logprobs.append(logprob)
            row.generated_ids.append(continuation.token_id)
            row.logprobs.append(continuation.logprob)
            if row.twin is not None:
                row.twin.generated_ids.append(continuation.token_id)
        group.rows = rows

    def _release(self, row: Row) -> None:
        """Free the room of a row and of its twin, and what guesses for it keep."""
        self._cache.release(row.id)
        self._drafting.release(row.id)
        if row.twin is not None:
            self._cache.release(row.twin.id)

    def _fork(self, parent: Row) -> Row:
        child = fork(parent, next(self._sequence_ids))
        self._cache.fork(parent.id, child.id)
        if parent.twin is not None:
            child.twin = self._fork(parent.twin)
        return child


def _order(group: Group) -> tuple[float, int]:
    return group.order
