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
from decoding.processors.epsilon import epsilon_floor, eta_floor
from decoding.processors.min_p import min_p_floor
from decoding.processors.mirostat import apply_mirostat_1, mirostat_2_floor
from decoding.processors.temperature import apply_dynamic_temperature, apply_temperature
from decoding.processors.top_h import apply_top_h
from decoding.processors.top_k import top_k_floor
from decoding.processors.top_n_sigma import top_n_sigma_floor
from decoding.processors.top_p import top_p_floor
from decoding.processors.typical import apply_typical
from decoding.processors.xtc import apply_xtc
from decoding.randomness import uniform
from decoding.whole import Whole, places_of

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
    fields: tuple[str, ...]  # of Processing, each handed over as a tensor [rows]
    apply: Callable[..., Tensor]  # new scores, or the floor [rows] of the scores that stay
    is_floor: bool = False
    needs_whole: bool = False  # measures by figures of all tokens: takes a `Whole` besides
    has_coin: bool = False  # runs at some places only
    dtype: torch.dtype = torch.float32


def _differs(field: str) -> Callable[[Processing], bool]:
    neutral = getattr(_DEFAULTS, field)
    return lambda processing: getattr(processing, field) != neutral


def _floor(
    field: str, floor: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float32
) -> _Filter:
    return _Filter(field, _differs(field), (field,), floor, is_floor=True, dtype=dtype)


def _measured_floor(
    field: str, floor: Callable[[Tensor, Tensor, Whole], Tensor], dtype: torch.dtype = torch.float32
) -> _Filter:
    return _Filter(
        field, _differs(field), (field,), floor, is_floor=True, needs_whole=True, dtype=dtype
    )


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
        needs_whole=True,
    ),
    _measured_floor("top_n_sigma", top_n_sigma_floor, torch.float64),
    _Filter("top_h", _differs("top_h"), ("top_h",), apply_top_h),
    _floor("top_k", top_k_floor, torch.int64),
    _measured_floor("top_p", top_p_floor, torch.float64),
    _floor("min_p", min_p_floor),
    _Filter(
        "typical_p",
        _differs("typical_p"),
        ("typical_p",),
        apply_typical,
        needs_whole=True,
        dtype=torch.float64,
    ),
    _measured_floor("epsilon_cutoff", epsilon_floor),
    _measured_floor("eta_cutoff", eta_floor),
    _Filter("xtc", _differs("xtc_probability"), ("xtc_threshold",), apply_xtc, has_coin=True),
    _Filter(
        "mirostat",
        lambda asked: asked.mirostat == 1,
        ("mirostat_mu",),
        apply_mirostat_1,
        needs_whole=True,
    ),
    _Filter(
        "mirostat",
        lambda asked: asked.mirostat == 2,
        ("mirostat_mu",),
        mirostat_2_floor,
        is_floor=True,
        needs_whole=True,
    ),
)


def apply_filters(scores: Tensor, asked: Sequence[Filtering]) -> Tensor:
    """Apply to each row of `scores` [rows, vocab] what it asked for; may be the same tensor."""
    return _run(scores, asked, _active, None)


def truncate_candidates(scores: Tensor, asked: Sequence[Filtering], whole: Whole) -> Tensor:
    """Apply the filters of each row up to its first truncation, which there is.

    `scores` [rows, candidates] are those that it may keep; it measures them by `whole`, rows as
    they are after their fixed temperature.
    """
    return _run(scores, asked, _until_truncated, whole)


def apply_rest(scores: Tensor, asked: Sequence[Filtering]) -> Tensor:
    """Apply what comes after the first truncation to what it has left, [rows, candidates]."""
    return _run(scores, asked, _after_truncation, None)


def signature(processing: Processing) -> tuple[object, ...]:
    """The filters that a row asks for, in its order: rows with the same one run together."""
    return (processing.samplers, _active(processing))


def first_truncation(processing: Processing) -> str | None:
    """The filter that drops tokens before any other, in the usual order; None if none does.

    None too where the row has its own order, and where XTC is the first: it keeps the unlikely.
    """
    if processing.samplers is not None:
        return None
    last = _until_truncated(processing)[-1:]
    sampler = _FILTERS[last[0]].sampler if last else None
    return None if sampler in ("temperature", "xtc") else sampler


def is_scaled(processing: Processing) -> bool:
    """Whether a temperature changes the distances between a row's scores."""
    return processing.temperature != 1.0 or processing.dynatemp_range > 0


def _run(
    scores: Tensor,
    asked: Sequence[Filtering],
    filters_of: Callable[[Processing], tuple[int, ...]],
    whole: Whole | None,
) -> Tensor:
    """Run filter after filter, each on all the rows that ask for it.

    What lies below a row's floor is dropped when another filter looks at the row, or in the end:
    so most steps drop once.
    """
    floors = _Floors(scores.shape[0], scores.device)
    stages: dict[tuple[str, ...] | None, dict[int, list[int]]] = {}
    for at, filtering in enumerate(asked):
        stage = stages.setdefault(filtering.processing.samplers, {})
        for number in filters_of(filtering.processing):
            stage.setdefault(number, []).append(at)
    for samplers, stage in stages.items():
        order = _in_order(samplers)
        for number in sorted(stage):
            rows = _falling(order[number], stage[number], asked)
            if not floors.are_apart_from(rows):
                scores = floors.drop(scores)
            if rows and order[number].is_floor:
                floors.note(rows, _figure(scores, rows, order[number], asked, whole))
            elif rows:
                done = _figure(scores, rows, order[number], asked, whole)
                scores = _put(scores, rows, done)
    return floors.drop(scores)


class _Floors:
    """The floors of some of a step's rows, until what lies below them is dropped."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self._none = torch.full((num_rows,), -torch.inf, device=device)
        self._floors = self._none
        self._rows: set[int] = set()

    def are_apart_from(self, rows: Sequence[int]) -> bool:
        """Whether none of the rows has a floor already."""
        return self._rows.isdisjoint(rows)

    def note(self, rows: Sequence[int], floors: Tensor) -> None:
        """Rows and their `floors` [rows]."""
        rounded = floors.float()
        if floors.dtype == torch.float64:  # the least number that is not below the floor
            above = torch.nextafter(rounded, rounded.new_tensor(torch.inf))
            rounded = torch.where(rounded.double() < floors, above, rounded)
        if not self._rows:
            self._floors = self._none.clone()
        self._floors[places_of(rows, floors.device)] = rounded
        self._rows.update(rows)

    def drop(self, scores: Tensor) -> Tensor:
        """Drop what is below its row's floor; the best of a row always stay."""
        if not self._rows:
            return scores
        self._rows.clear()
        floors = torch.minimum(self._floors, scores.amax(dim=1))
        return scores.masked_fill(scores < floors[:, None], -torch.inf)


@lru_cache(maxsize=4096)
def _active(processing: Processing) -> tuple[int, ...]:
    """Which filters of its order a row asks for."""
    order = _in_order(processing.samplers)
    return tuple(number for number, each in enumerate(order) if each.is_asked(processing))


@lru_cache(maxsize=4096)
def _until_truncated(processing: Processing) -> tuple[int, ...]:
    """Those of a row's filters, in the usual order, that end with its first truncation."""
    active = _active(processing)
    for count, number in enumerate(active, start=1):
        if _FILTERS[number].sampler != "temperature":
            return active[:count]
    return active


def _after_truncation(processing: Processing) -> tuple[int, ...]:
    return _active(processing)[len(_until_truncated(processing)) :]


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


def _figure(
    scores: Tensor,
    rows: Sequence[int],
    each: _Filter,
    asked: Sequence[Filtering],
    whole: Whole | None,
) -> Tensor:
    """What a filter makes of some rows of `scores`; without `whole` these are all there is."""
    concerned = scores[places_of(rows, scores.device)]
    parameters: list[Tensor | Whole] = [
        torch.tensor(
            [getattr(asked[row].processing, field) for row in rows],
            dtype=each.dtype,
            device=scores.device,
        )
        for field in each.fields
    ]
    if each.needs_whole:
        parameters.append(Whole(concerned) if whole is None else whole.of_rows(rows))
    return each.apply(concerned, *parameters)


def _put(scores: Tensor, rows: Sequence[int], done: Tensor) -> Tensor:
    """The scores with some rows replaced."""
    if len(rows) == scores.shape[0]:
        return done
    scores = scores.clone()
    scores[places_of(rows, scores.device)] = done
    return scores
