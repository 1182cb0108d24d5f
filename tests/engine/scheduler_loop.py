"""A scheduler run by hand over integer memory, which checks every plan it is given. No torch."""

from decoding.base import Candidate
from engine.config import EngineConfig
from engine.messages import GenerationRequest
from engine.paged_cache import PagedCache
from engine.plan import Plan
from engine.scheduler import Scheduler
from engine.sequence import Group
from tests.engine.slot_memory import SlotMemory

VOCAB_SIZE = 1000


class SchedulerLoop:
    """Plan, compute on integers, decide, commit; results by request id."""

    def __init__(self, config: EngineConfig, *, num_blocks: int) -> None:
        self.config = config
        self.cache = PagedCache(num_blocks=num_blocks, block_size=config.block_size)
        self.scheduler = Scheduler(
            cache=self.cache, config=config, vocab_size=VOCAB_SIZE, clock=self._count_steps
        )
        self.results: dict[str, tuple[int, ...]] = {}
        self.started: list[Group] = []  # in the order they were first admitted
        self.num_steps = 0
        self._memory = SlotMemory(self.cache)

    @property
    def has_work(self) -> bool:
        """Whether a request runs or waits."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def fits(self, request: GenerationRequest) -> bool:
        """Whether the engine would let the request in."""
        num_rows = request.strategy.num_rows
        num_tokens = len(request.prompt_ids) + request.max_new_tokens
        needed = self.cache.max_tokens_of(num_rows, num_tokens)
        return num_rows <= self.config.max_rows and needed <= self.cache.max_tokens

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request that fits."""
        assert self.fits(request)
        self.scheduler.add(request, self._count_steps())

    def cancel(self, request_id: str) -> None:
        """Drop a request that has not ended."""
        group = self.scheduler.find(request_id)
        assert group is not None
        self.scheduler.drop(group)

    def step(self) -> Plan:
        """One step; there must be one while there is work."""
        decoding = [group for group in self.scheduler.running if group.is_decoding]
        plan = self.scheduler.plan()
        self.num_steps += 1
        assert plan is not None, "nothing is planned although there is work"
        self._check_plan(plan, decoding)
        self._note_started()
        found = self._find(plan)
        decisions = [
            group.decoder.advance(group.rows, [found[row.id] for row in group.rows])
            for group in plan.stepping
        ]
        self.scheduler.commit(plan, decisions)
        for group, decision in zip(plan.stepping, decisions, strict=True):
            if not decision.live:
                self.results[group.request.request_id] = decision.results[0].token_ids
        return plan

    def finish(self) -> None:
        """Step until nothing is left, within a bound that any progress at all would meet."""
        groups = (*self.scheduler.running, *self.scheduler.waiting)
        bound = self.num_steps + 2 * sum(_work(group.request) for group in groups)
        while self.has_work:
            assert self.num_steps < bound, "work is left although there were steps enough"
            self.step()

    def check_room(self) -> None:
        """Room is taken by running rows and by nobody else."""
        held = {
            block
            for group in self.scheduler.running
            for row in group.rows
            for block in self.cache.block_table(row.id)
        }
        assert self.cache.num_used_tokens == len(held) * self.config.block_size

    def _count_steps(self) -> float:
        return float(self.num_steps)

    def _find(self, plan: Plan) -> dict[int, list[Candidate]]:
        wanting = [row.sequence.id for row in plan.rows if row.num_logits]
        digests = self._memory.compute(plan)
        tokens = [int.from_bytes(digest[:4], "little") % VOCAB_SIZE for digest in digests]
        return {
            sequence_id: [Candidate(token_id, 0.0, 0.0)]
            for sequence_id, token_id in zip(wanting, tokens, strict=True)
        }

    def _check_plan(self, plan: Plan, decoding: list[Group]) -> None:
        assert 0 < plan.num_tokens <= self.config.max_step_tokens
        assert len(plan.rows) <= self.config.max_rows
        assert sum(g.num_reserved_rows for g in self.scheduler.running) <= self.config.max_rows
        ids = [row.sequence.id for row in plan.rows]
        assert len(ids) == len(set(ids)), "a row is planned twice"
        wanting = [row.sequence for row in plan.rows if row.num_logits]
        assert wanting == [row for group in plan.stepping for row in group.rows]
        for row in plan.rows:
            assert row.start == row.sequence.num_computed
            is_whole = row.end == row.sequence.num_tokens
            assert is_whole == bool(row.num_logits), "half a group would choose"
        for group in decoding:
            is_running = group in self.scheduler.running
            assert is_running == (group in plan.stepping), "a decoding group waits for a prompt"

    def _note_started(self) -> None:
        running = [group for group in self.scheduler.running if group not in self.started]
        self.started += running
        first = min((group.order for group in self.scheduler.waiting), default=None)
        for group in running:
            assert first is None or group.order < first, "a request overtook one before it"


def finish_alone(request: GenerationRequest, *, block_size: int = 4) -> tuple[int, ...]:
    """The tokens of a request with a scheduler and plenty of room to itself."""
    config = EngineConfig(max_rows=16, max_step_tokens=4096, block_size=block_size)
    loop = SchedulerLoop(config, num_blocks=1000)
    loop.submit(request)
    loop.finish()
    assert loop.scheduler.num_preemptions == 0
    return loop.results[request.request_id]


def _work(request: GenerationRequest) -> int:
    return request.strategy.num_rows * (len(request.prompt_ids) + request.max_new_tokens)
