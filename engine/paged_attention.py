"""Attention over the paged cache, in the shape transformers calls it.

Registered with transformers' attention interface, so unmodified models run on a flat batch of many
sequences. The step's metadata comes in through the arguments (`flat_batch`), never through a
global. Grouped queries, sliding windows and soft-capping are handled; whatever else a model hands
to its attention is refused rather than ignored.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from engine.errors import UnsupportedModel
from engine.flat_batch import FlatBatch, Span
from engine.kv_store import LayerShape

ATTENTION_NAME = "beamline_paged"
UNSUPPORTED_ARGUMENTS = {
    "position_bias": "adds a position bias (such as ALiBi) to its attention scores",
    "s_aux": "uses attention sinks",
}


class LayerProbe:
    """Stands in for a `FlatBatch` to learn what each layer keeps of a token."""

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}
        self.windows: dict[int, int | None] = {}

    def note(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None
    ) -> Tensor:
        """Write down a layer's shape; attention of a single token is its own value."""
        self.shapes[layer] = LayerShape(key.shape[1], key.shape[-1], value.shape[-1])
        self.windows[layer] = window
        return value.repeat_interleave(query.shape[1] // key.shape[1], dim=1).transpose(1, 2)


def register_paged_attention(*, is_compiled: bool = False) -> None:
    """Make the attention known to transformers under `ATTENTION_NAME`. Idempotent.

    Layers that are compiled call it and do not take it in: its shapes change with every step.
    """
    attend: Any = paged_attention
    if is_compiled:
        attend = torch.compiler.disable(paged_attention)  # type: ignore[no-untyped-call]
    AttentionInterface.register(ATTENTION_NAME, attend)
    AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)


def paged_attention(  # noqa: PLR0913  the signature is transformers'
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    flat_batch: FlatBatch | LayerProbe | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attend from `query` [1, heads, T, dim] to the cache, after `key` and `value` are put there.

    `key` and `value` are [1, kv_heads, T, dim]. Returns [1, T, heads, value_dim] and no weights.
    """
    if flat_batch is None:
        raise UnsupportedModel("the model does not pass keyword arguments on to its attention")
    _refuse_unsupported(attention_mask, others)
    layer = _layer_index(module)
    if isinstance(flat_batch, LayerProbe):
        return flat_batch.note(layer, query, key, value, sliding_window), None
    keys, values = flat_batch.store.layer(layer)
    keys.index_copy_(0, flat_batch.slots, key[0].transpose(0, 1))
    values.index_copy_(0, flat_batch.slots, value[0].transpose(0, 1))
    scoring = _Scoring(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
    )
    output = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    for span in flat_batch.spans:
        attended = _attend(query[0], keys, values, span, scoring)
        output.index_copy_(0, span.at.flatten(), attended.flatten(0, 1))
    return output[None], None


@dataclass(frozen=True, slots=True)
class _Scoring:
    """How a layer turns products of queries and keys into weights."""

    scale: float
    window: int | None
    softcap: float | None


def _attend(query: Tensor, keys: Tensor, values: Tensor, span: Span, scoring: _Scoring) -> Tensor:
    """Attention of one span, [R, Q, heads, value_dim]. `query` is [heads, T, dim]."""
    num_rows, num_queries = span.at.shape
    num_heads, num_kv_heads = query.shape[0], keys.shape[1]
    groups = num_heads // num_kv_heads
    # Query heads that share a key head become more queries of that head: [R, kv, groups * Q, dim].
    q = query.index_select(1, span.at.flatten())
    q = q.view(num_kv_heads, groups, num_rows, num_queries, -1)
    q = q.permute(2, 0, 1, 3, 4).flatten(2, 3)
    k = _gather(keys, span.context)
    v = _gather(values, span.context)
    mask = span.mask(scoring.window, groups if num_queries > 1 else 1)
    if scoring.softcap is None:
        attended = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scoring.scale
        )
    else:
        attended = _capped_attention(q, k, v, mask, scoring.scale, scoring.softcap)
    attended = attended.reshape(num_rows, num_heads, num_queries, -1)
    return attended.transpose(1, 2)


def _gather(slots: Tensor, context: Tensor) -> Tensor:
    """Tokens of `slots` [slots, kv, dim] at `context` [R, L], as [R, kv, L, dim].

    `index_select` copies whole tokens and is several times faster than indexing on a CPU.
    """
    tokens = slots.index_select(0, context.flatten())
    return tokens.view(*context.shape, *slots.shape[1:]).transpose(1, 2)


def _capped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float
) -> Tensor:
    """Scores squeezed into (-softcap, softcap) by tanh, as Gemma 2 does (arXiv:2408.00118)."""
    scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / softcap)) * softcap
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32)
    return weights.to(v.dtype) @ v


def _refuse_unsupported(attention_mask: Tensor | None, others: dict[str, object]) -> None:
    if attention_mask is not None:
        raise UnsupportedModel("the model builds an attention mask of its own")
    for name, meaning in UNSUPPORTED_ARGUMENTS.items():
        if others.get(name) is not None:
            raise UnsupportedModel(f"the model {meaning}, which paged attention does not support")


def _layer_index(module: nn.Module) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise UnsupportedModel("the model's attention layers are not numbered")
    return layer


def _no_mask(*_: object, **__: object) -> None:
    """The mask follows from the flat batch; transformers must not build one."""
