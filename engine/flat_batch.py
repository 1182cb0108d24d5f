"""A plan as tensors: one flat row of tokens, where each goes, and what each may look at.

The only place where rows become tensors. Built once a step by the torch runner; every layer's
attention reads the same `FlatBatch`. Letters: T tokens of the step, R rows, Q queries a row,
L padded context length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.kv_store import KVStore
from engine.paged_cache import PagedCache
from engine.plan import Plan, PlannedRow

SHORTEST_CONTEXT = 32  # padded context lengths are 32, 48, 64, 96, 128, 192, ...


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of the flat batch whose attention is computed together."""

    at: Tensor  # [R, Q] positions in the flat batch
    positions: Tensor  # [R, Q] positions in their sequences
    context: Tensor  # [R, L] slots of each row's sequence from its start; padded with slot 0
    _masks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, groups: int) -> Tensor:
        """What each query may look at, [R, 1, groups * Q, L] bool: its past within the window.

        Made once a step for all layers that ask the same.
        """
        if (window, groups) not in self._masks:
            keys = torch.arange(self.context.shape[1], device=self.context.device)
            queries = self.positions[:, :, None]
            seen = keys <= queries
            if window is not None:
                seen &= keys > queries - window
            self._masks[window, groups] = seen.repeat(1, groups, 1)[:, None]
        return self._masks[window, groups]


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """One step for the model and its attention."""

    token_ids: Tensor  # [1, T]
    positions: Tensor  # [1, T]
    slots: Tensor  # [T] where each token's keys and values are kept
    logits_at: Tensor  # [wanted logits] positions in the flat batch
    spans: tuple[Span, ...]
    store: KVStore


def build_flat_batch(
    plan: Plan, cache: PagedCache, store: KVStore, device: torch.device
) -> FlatBatch:
    """Lay a plan out as tensors on `device`."""
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    logits_at: list[int] = []
    starts: list[int] = []
    for row in plan.rows:
        starts.append(len(token_ids))
        token_ids += row.sequence.tokens_between(row.start, row.end)
        positions += range(row.start, row.end)
        slots += cache.slots(row.sequence.id, row.start, row.end)
        logits_at += range(len(token_ids) - row.num_logits, len(token_ids))
    return FlatBatch(
        token_ids=torch.tensor([token_ids], device=device),
        positions=torch.tensor([positions], device=device),
        slots=torch.tensor(slots, device=device),
        logits_at=torch.tensor(logits_at, dtype=torch.int64, device=device),
        spans=tuple(_spans(plan.rows, starts, cache, device)),
        store=store,
    )


def _spans(
    rows: Sequence[PlannedRow], starts: Sequence[int], cache: PagedCache, device: torch.device
) -> list[Span]:
    """Single tokens together by padded context length, each chunk of a prompt by itself.

    The padded length depends on the row alone, so neighbours do not change a row's arithmetic.
    """
    buckets: dict[tuple[int, int], list[int]] = {}
    for at, row in enumerate(rows):
        is_chunk = row.end - row.start > 1
        length = row.end if is_chunk else padded_length(row.end)
        buckets.setdefault((length, at if is_chunk else -1), []).append(at)
    return [
        _span([rows[at] for at in members], [starts[at] for at in members], length, cache, device)
        for (length, _), members in buckets.items()
    ]


def _span(
    rows: Sequence[PlannedRow],
    starts: Sequence[int],
    length: int,
    cache: PagedCache,
    device: torch.device,
) -> Span:
    num_queries = rows[0].end - rows[0].start
    offsets = torch.arange(num_queries)
    at = torch.tensor(starts)[:, None] + offsets
    positions = torch.tensor([row.start for row in rows])[:, None] + offsets
    size = cache.block_size
    num_blocks = -(-length // size)
    tables = torch.zeros(len(rows), num_blocks, dtype=torch.int64)
    for row_at, row in enumerate(rows):
        table = cache.block_table(row.sequence.id)[: -(-row.end // size)]
        tables[row_at, : len(table)] = torch.tensor(table)
    slots = tables[:, :, None] * size + torch.arange(size)
    context = slots.flatten(1)[:, :length]
    ends = torch.tensor([row.end for row in rows])[:, None]
    context = context.masked_fill(torch.arange(length) >= ends, 0)
    return Span(at=at.to(device), positions=positions.to(device), context=context.to(device))


def padded_length(length: int) -> int:
    """The next of 32, 48, 64, 96, 128, ...: at most half of it is padding."""
    padded = SHORTEST_CONTEXT
    while padded < length:
        if length <= padded + padded // 2:
            return padded + padded // 2
        padded *= 2
    return padded
