"""A strategy's filters: temperature and the truncations, each run only on rows that ask for it.

Called once a step by `decoding.chooser` for the whole batch, after the requests' adjustments. A
filter that no row asked for costs nothing. Rows run them in the usual order, which extends that of
`transformers`, or in an order of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from decoding.params import Processing
from decoding.processors.epsilon import apply_epsilon, apply_eta
from decoding.processors.min_p import apply_min_p
from decoding.processors.mirostat import apply_mirostat_1, apply_mirostat_2
from decoding.processors.temperature import apply_dynamic_temperature, apply_temperature
from decoding.processors.top_h import apply_top_h
from decoding.processors.top_k import apply_top_k
from decoding.processors.top_n_sigma import apply_top_n_sigma
from decoding.processors.top_p import apply_top_p
from decoding.processors.typical import apply_typical
from decoding.processors.xtc import apply_xtc
from decoding.randomness import uniform

_DEFAULTS = Processing()


@dataclass(frozen=True, slots=True)
class Filtering:
    """What one row asks of the filters, and where it stands: XTC draws by that place."""

    processing: Processing
    place: tuple[int, int, int] = (0, 0, 0)  # seed, sequence index, position


@dataclass(frozen=True, slots=True)
class _Filter:
    """One filter: what asks for it, which parameters it takes, and what it does."""

    sampler: str  # what `samplers` calls it
    is_asked: Callable[[Processing], bool]
    fields: tuple[str, ...]  # of Processing, each handed to `apply` as a tensor [rows]
    apply: Callable[..., Tensor]
    dtype: torch.dtype = torch.float32
    has_coin: bool = False  # runs at some places only


def _differs(field: str) -> Callable[[Processing], bool]:
    neutral = getattr(_DEFAULTS, field)
    return lambda processing: getattr(processing, field) != neutral


def _simple(
    field: str, apply: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float32
) -> _Filter:
    return _Filter(field, _differs(field), (field,), apply, dtype)


_FILTERS = (
    _Filter(
        "temperature",
        lambda asked: asked.temperature != 1.0 and not asked.dynatemp_range,
        ("temperature",),
        apply_temperature,
    ),
    _Filter(
        "temperature",
        _differs("dynatemp_range"),
        ("temperature", "dynatemp_range", "dynatemp_exponent"),
        apply_dynamic_temperature,
    ),
    _simple("top_n_sigma", apply_top_n_sigma, torch.float64),
    _simple("top_h", apply_top_h),
    _simple("top_k", apply_top_k, torch.int64),
    _simple("top_p", apply_top_p, torch.float64),
    _simple("min_p", apply_min_p),
    _simple("typical_p", apply_typical, torch.float64),
    _simple("epsilon_cutoff", apply_epsilon),
    _simple("eta_cutoff", apply_eta),
    _Filter("xtc", _differs("xtc_probability"), ("xtc_threshold",), apply_xtc, has_coin=True),
    _Filter("mirostat", lambda asked: asked.mirostat == 1, ("mirostat_mu",), apply_mirostat_1),
    _Filter("mirostat", lambda asked: asked.mirostat == 2, ("mirostat_mu",), apply_mirostat_2),
)


def apply_filters(scores: Tensor, asked: Sequence[Filtering]) -> Tensor:
    """Apply to each row of `scores` [rows, candidates] what it asked for; may be the same tensor.

    The candidates are the vocabulary, or those of its tokens that a row can still draw.
    """
    stages: dict[tuple[str, ...] | None, dict[int, list[int]]] = {}
    for at, filtering in enumerate(asked):
        stage = stages.setdefault(filtering.processing.samplers, {})
        for number in _active(filtering.processing):
            stage.setdefault(number, []).append(at)
    for samplers, stage in stages.items():
        order = _in_order(samplers)
        for number in sorted(stage):
            concerned = _falling(order[number], stage[number], asked)
            if concerned:
                scores = _on_rows(scores, concerned, order[number], asked)
    return scores


def signature(processing: Processing) -> tuple[object, ...]:
    """The filters that a row asks for, in its order: rows with the same one run together."""
    return (processing.samplers, _active(processing))


def first_truncation(processing: Processing) -> str | None:
    """The filter that drops tokens before any other, in the usual order; None if none does.

    None too where something before it looks at all tokens, or where the row has its own order.
    """
    if processing.samplers is not None:
        return None
    asked = [_FILTERS[number] for number in _active(processing)]
    first = next((each for each in asked if each.apply is not apply_temperature), None)
    return None if first is None else first.sampler


@lru_cache(maxsize=4096)
def _active(processing: Processing) -> tuple[int, ...]:
    """Which filters of its order a row asks for."""
    order = _in_order(processing.samplers)
    return tuple(number for number, each in enumerate(order) if each.is_asked(processing))


@lru_cache(maxsize=256)
def _in_order(samplers: tuple[str, ...] | None) -> tuple[_Filter, ...]:
    if samplers is None:
        return _FILTERS
    return tuple(each for name in samplers for each in _FILTERS if each.sampler == name)


def _falling(each: _Filter, rows: list[int], asked: Sequence[Filtering]) -> list[int]:
    """The rows whose coin, if the filter has one, says that it runs at this place."""
    if not each.has_coin:
        return rows
    return [
        at
        for at in rows
        if uniform(*asked[at].place, purpose=b"xtc") < asked[at].processing.xtc_probability
    ]


def _on_rows(
    scores: Tensor, rows: Sequence[int], each: _Filter, asked: Sequence[Filtering]
) -> Tensor:
    parameters = [
        torch.tensor(
            [getattr(asked[at].processing, field) for at in rows],
            dtype=each.dtype,
            device=scores.device,
        )
        for field in each.fields
    ]
    if len(rows) == scores.shape[0]:
        return each.apply(scores, *parameters)
    at = torch.tensor(rows, device=scores.device)
    return scores.index_copy(0, at, each.apply(scores[at], *parameters))
