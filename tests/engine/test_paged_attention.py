"""Paged attention against attention written out in float64, row by row and head by head."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from engine.errors import UnsupportedModel
from engine.kv_store import LayerShape
from engine.paged_attention import (
    ATTENTION_NAME,
    LayerProbe,
    paged_attention,
    register_paged_attention,
)
from tests.engine.flat_batches import PlacedBatch

KEY_DIM, VALUE_DIM = 8, 6
RANGES = [(0, 6), (13, 14), (5, 9), (40, 41), (0, 1), (30, 42), (31, 32)]
LAYER = SimpleNamespace(layer_idx=0)


def _naive_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """One query [dim] of the newest of `keys` [n, dim]: what it takes of `values` [n, dim]."""
    first = 0 if window is None else max(0, len(keys) - window)
    scores = [float(query @ key) * scale for key in keys[first:]]
    if softcap is not None:
        scores = [softcap * math.tanh(score / softcap) for score in scores]
    weights = [math.exp(score - max(scores)) for score in scores]
    taken = sum(w * value for w, value in zip(weights, values[first:], strict=True))
    return taken / sum(weights)


class Attended:
    """A batch of rows with random queries, keys and values, attended both ways."""

    def __init__(self, num_heads: int, num_kv_heads: int, *, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(num_heads)
        shape = LayerShape(num_kv_heads, KEY_DIM, VALUE_DIM)
        self.groups = num_heads // num_kv_heads
        self.placed = PlacedBatch(RANGES, shape=shape, dtype=dtype)
        self.keys, self.values, self.queries = [], [], []
        for _, end in RANGES:
            for kept, heads, dim in (
                (self.keys, num_kv_heads, KEY_DIM),
                (self.values, num_kv_heads, VALUE_DIM),
                (self.queries, num_heads, KEY_DIM),
            ):
                kept.append(torch.randn(end, heads, dim, generator=generator, dtype=dtype))
        self._place_past()

    def paged(self, **arguments: object) -> Tensor:
        """What paged attention returns, [T, heads, dim]."""
        query, key, value = (
            torch.cat([full[start:] for full, (start, _) in zip(kept, RANGES, strict=True)])
            for kept in (self.queries, self.keys, self.values)
        )
        output, weights = paged_attention(
            LAYER,
            *(tensor.transpose(0, 1)[None] for tensor in (query, key, value)),
            None,
            flat_batch=self.placed.build(),
            **arguments,
        )
        assert weights is None
        return output[0]

    def naive(self, *, scale: float, window: int | None, softcap: float | None) -> Tensor:
        """The same one query at a time."""
        outputs = []
        for at, (start, end) in enumerate(RANGES):
            keys, values = self.keys[at].double(), self.values[at].double()
            for position in range(start, end):
                heads = [
                    _naive_attention(
                        self.queries[at][position, head].double(),
                        keys[: position + 1, head // self.groups],
                        values[: position + 1, head // self.groups],
                        scale=scale,
                        window=window,
                        softcap=softcap,
                    )
                    for head in range(self.queries[at].shape[1])
                ]
                outputs.append(torch.stack(heads))
        return torch.stack(outputs)

    def _place_past(self) -> None:
        stored_keys, stored_values = self.placed.store.layer(0)
        stored_keys.fill_(torch.nan)  # whatever nobody wrote must never be looked at
        stored_values.fill_(torch.nan)
        stored_keys[: self.placed.cache.block_size] = 0
        stored_values[: self.placed.cache.block_size] = 0
        for at, (start, _) in enumerate(RANGES):
            slots = self.placed.slots(at, 0, start)
            stored_keys[slots] = self.keys[at][:start]
            stored_values[slots] = self.values[at][:start]


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(2, 2), (4, 2), (6, 1)])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_every_row_attends_to_its_own_past(
    num_heads: int, num_kv_heads: int, window: int | None, softcap: float | None
) -> None:
    attended = Attended(num_heads, num_kv_heads, dtype=torch.float64)
    found = attended.paged(scaling=0.7, sliding_window=window, softcap=softcap)
    expected = attended.naive(scale=0.7, window=window, softcap=softcap)
    tolerance = 1e-12 if softcap is None else 1e-6  # capped weights are summed in float32
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_without_a_scale_scores_are_divided_by_the_root_of_the_head_size() -> None:
    attended = Attended(4, 2, dtype=torch.float32)
    expected = attended.naive(scale=KEY_DIM**-0.5, window=None, softcap=None)
    torch.testing.assert_close(attended.paged().double(), expected, rtol=1e-5, atol=1e-5)


def test_new_keys_and_values_are_kept_in_their_slots() -> None:
    attended = Attended(4, 2, dtype=torch.float32)
    attended.paged()
    keys, values = attended.placed.store.layer(0)
    for at, (_, end) in enumerate(RANGES):
        slots = attended.placed.slots(at, 0, end)
        assert torch.equal(keys[slots], attended.keys[at])
        assert torch.equal(values[slots], attended.values[at])


def test_a_row_is_attended_the_same_bit_for_bit_whatever_its_neighbours_hold() -> None:
    attended = Attended(4, 2, dtype=torch.float32)
    before = attended.paged()
    changed = 3
    for kept in (attended.keys, attended.values, attended.queries):
        kept[changed] *= -3
    attended._place_past()
    after = attended.paged()
    first = sum(end - start for start, end in RANGES[:changed])
    others = [at for at in range(len(before)) if at != first]
    assert torch.equal(after[others], before[others])
    assert not torch.equal(after[first], before[first])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"position_bias": torch.zeros(1)}, "position bias"),
        ({"s_aux": torch.zeros(1)}, "sinks"),
    ],
)
def test_an_argument_that_changes_attention_is_refused(
    arguments: dict[str, object], reason: str
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        Attended(2, 2, dtype=torch.float32).paged(**arguments)


def test_an_argument_that_is_none_changes_nothing() -> None:
    attended = Attended(2, 2, dtype=torch.float32)
    assert torch.equal(attended.paged(s_aux=None, position_bias=None), attended.paged())


def _attend_one(module: object, mask: Tensor | None, probe: LayerProbe | None) -> Tensor:
    query, key = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 1, 8)
    value = torch.randn(1, 2, 1, 6)
    output, _ = paged_attention(module, query, key, value, mask, sliding_window=9, flat_batch=probe)
    return output


def test_a_model_that_drops_keyword_arguments_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="keyword arguments"):
        _attend_one(LAYER, None, None)


def test_a_mask_of_the_models_own_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="mask of its own"):
        _attend_one(LAYER, torch.zeros(1), LayerProbe())


@pytest.mark.parametrize("index", [None, "first"])
def test_a_layer_without_a_number_is_refused(index: object) -> None:
    with pytest.raises(UnsupportedModel, match="not numbered"):
        _attend_one(SimpleNamespace(layer_idx=index), None, LayerProbe())


def test_a_probe_notes_what_each_layer_keeps_and_its_window() -> None:
    probe = LayerProbe()
    output = _attend_one(SimpleNamespace(layer_idx=4), None, probe)
    assert output.shape == (1, 1, 4, 6)
    assert probe.shapes == {4: LayerShape(2, 8, 6)}
    assert probe.windows == {4: 9}


def test_registering_twice_is_fine() -> None:
    register_paged_attention()
    register_paged_attention()
    assert AttentionInterface()[ATTENTION_NAME] is paged_attention
