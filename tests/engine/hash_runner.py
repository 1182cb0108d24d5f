"""A runner without a model, and engines and requests around it.

Its logits are a pure function of what a row reads back from the slots of its cache, so a request
gets the same tokens alone and in company exactly if the engine's bookkeeping is right.
"""

from collections.abc import Callable

import torch

from decoding.adjustments import NO_ADJUSTMENTS, Adjustments
from decoding.base import ModelDepth, StopCheck, Strategy
from decoding.greedy import Greedy
from decoding.logits import EarlyExits, Logits
from engine.config import EngineConfig
from engine.early_exits import kept_rows
from engine.engine import Engine
from engine.messages import GenerationRequest
from engine.paged_cache import PagedCache
from engine.plan import Plan, PlannedRow
from tests.engine.slot_memory import SlotMemory

VOCAB_SIZE = 29
CONTEXT_LENGTH = 256
HIDDEN_WIDTH = 6
BLOCK_SIZE = 4
SPREAD = 3.0  # largest logit; the smallest is its negative


class HashRunner:
    """Implements `engine.runner.Runner` on integers."""

    device_memory_bytes = 0
    has_all_logits = True
    has_hidden_states = True
    is_deterministic = True
    depth = ModelDepth(num_layers=4, has_tied_embeddings=False)

    def __init__(self, *, num_blocks: int = 400, block_size: int = BLOCK_SIZE) -> None:
        self.cache = PagedCache(num_blocks=num_blocks, block_size=block_size)
        self.context_length = CONTEXT_LENGTH
        self.vocab_size = VOCAB_SIZE
        self.plans: list[Plan] = []
        self.before_forward: Callable[[Plan], None] = _do_nothing
        self.spoils: Callable[[PlannedRow], bool] = _spoil_nothing
        self._memory = SlotMemory(self.cache)

    def forward(self, plan: Plan) -> Logits:
        """Logits from digests; all NaN for a row that `spoils` picks."""
        self.plans.append(plan)
        self.before_forward(plan)
        _check_tokens(plan)
        digests = self._memory.compute(plan)
        logits = torch.empty(len(digests), VOCAB_SIZE)
        wanting = [row for row in plan.rows for _ in range(row.num_logits)]
        for at, (row, digest) in enumerate(zip(wanting, digests, strict=True)):
            numbers = torch.frombuffer(bytearray(digest), dtype=torch.int16)[:VOCAB_SIZE]
            logits[at] = torch.nan if self.spoils(row) else numbers / 2**15 * SPREAD
        # The digest's next bytes stand for what the logits were computed from.
        hidden = [list(digest[-HIDDEN_WIDTH:]) for digest in digests]
        states = torch.tensor(hidden, dtype=torch.float32).reshape(-1, HIDDEN_WIDTH) - 128
        hidden = states if plan.watched else None
        return Logits(logits, hidden=hidden, early=_early_exits(plan, states))


def build_engine(runner: HashRunner, draft: HashRunner | None = None, **bounds: int) -> Engine:
    """An engine whose clock counts how often it was read."""
    ticks = iter(range(10**9))
    config = EngineConfig(**({"block_size": runner.cache.block_size} | bounds))
    return Engine(runner, config, draft=draft, clock=lambda: float(next(ticks)))


def build_request(
    request_id: str = "request",
    prompt_ids: tuple[int, ...] = (1, 2, 3),
    strategy: Strategy | None = None,
    *,
    max_new_tokens: int = 5,
    seed: int = 0,
    eos_token_ids: frozenset[int] = frozenset(),
    stop: StopCheck | None = None,
    cache_salt: str = "",
    adjustments: Adjustments = NO_ADJUSTMENTS,
) -> GenerationRequest:
    """A request; greedy when no strategy is named."""
    return GenerationRequest(
        request_id=request_id,
        prompt_ids=prompt_ids,
        strategy=Greedy() if strategy is None else strategy,
        max_new_tokens=max_new_tokens,
        seed=seed,
        eos_token_ids=eos_token_ids,
        stop=stop,
        cache_salt=cache_salt,
        adjustments=adjustments,
    )


def _early_exits(plan: Plan, states: torch.Tensor) -> EarlyExits | None:
    """The states turned by as many places as there are layers, times a matrix."""
    kept = kept_rows(plan)
    if kept is None:
        return None
    matrix = torch.arange(HIDDEN_WIDTH * VOCAB_SIZE).reshape(HIDDEN_WIDTH, VOCAB_SIZE).sin() / 50
    of_rows = states[list(kept.rows)]
    return EarlyExits(
        states={layer: of_rows.roll(layer, dims=1) for layer in kept.layers},
        head=lambda given: Logits(given @ matrix),
        places=kept.places,
    )


def _check_tokens(plan: Plan) -> None:
    # A token that a real model has no embedding for ends the step as well.
    for row in plan.rows:
        for token in row.sequence.tokens_between(row.start, row.end):
            if not isinstance(token, int) or not 0 <= token < VOCAB_SIZE:
                raise IndexError(f"there is no embedding of token {token}")


def _do_nothing(_: Plan) -> None:
    pass


def _spoil_nothing(_: PlannedRow) -> bool:
    return False
