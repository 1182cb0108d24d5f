"""The built-in strategies: every parameter is bounded, described, and has an effect."""

from dataclasses import MISSING, fields, replace
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import torch
from annotated_types import Ge, Gt, Le
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import Doc

from decoding.ask import Draw
from decoding.base import Candidate, ModelDepth, Strategy, Task
from decoding.beam import Beam
from decoding.chooser import RowAsk, find_candidates
from decoding.dynamic_temperature import DynamicTemperatureSampling
from decoding.epsilon import EpsilonSampling
from decoding.errors import InvalidParameter
from decoding.eta import EtaSampling
from decoding.greedy import Greedy
from decoding.min_p import MinPSampling
from decoding.mirostat import Mirostat
from decoding.params import MAX_SEQUENCES
from decoding.registry import STRATEGIES
from decoding.sample import Sample
from decoding.sampling import PROCESSING_FIELDS
from decoding.top_h import TopHSampling
from decoding.top_k import TopKSampling
from decoding.top_n_sigma import TopNSigmaSampling
from decoding.top_p import TopPSampling
from decoding.typical import TypicalSampling
from decoding.xtc import XtcSampling
from tests.decoding.rows import FixedRow, random_logits

PARAMETERS = [
    (strategy, field.name) for strategy in STRATEGIES.values() for field in fields(strategy)
]
DEPTH = ModelDepth(num_layers=8, has_tied_embeddings=False)
TASK = Task(max_new_tokens=10, seed=3, depth=DEPTH)


def _metadata(strategy: type[Strategy], name: str) -> tuple[object, ...]:
    hint = get_type_hints(strategy, include_extras=True)[name]
    assert get_origin(hint) is Annotated, f"{strategy.name}.{name} has no bounds"
    return get_args(hint)[1:]


def _is_number(strategy: type[Strategy], name: str) -> bool:
    return get_type_hints(strategy)[name] in (int, float)


def _first_step(strategy: Strategy, logits: Tensor) -> tuple[Candidate, ...]:
    """What the strategy's first ask finds in `logits` [1, vocab]."""
    row = FixedRow(prompt_ids=tuple(logits[0].topk(2).indices.tolist()))
    ask = strategy.start(TASK).ask
    (found,) = find_candidates(logits, [RowAsk(row, ask[0] if isinstance(ask, tuple) else ask)])
    return found


@pytest.mark.parametrize(("strategy", "name"), PARAMETERS)
def test_every_parameter_is_described(strategy: type[Strategy], name: str) -> None:
    (doc,) = [each for each in _metadata(strategy, name) if isinstance(each, Doc)]
    assert len(doc.documentation) > 20
    assert doc.documentation.endswith(".")


@pytest.mark.parametrize(("strategy", "name"), PARAMETERS)
def test_every_parameter_has_a_default_within_its_bounds(
    strategy: type[Strategy], name: str
) -> None:
    hint = get_type_hints(strategy, include_extras=True)[name]
    default = {field.name: field.default for field in fields(strategy)}[name]
    assert default is not MISSING
    assert TypeAdapter(hint).validate_python(default, strict=True) == default


@pytest.mark.parametrize(
    ("strategy", "name"), [entry for entry in PARAMETERS if _is_number(*entry)]
)
def test_every_number_is_bounded_on_both_sides(strategy: type[Strategy], name: str) -> None:
    metadata = _metadata(strategy, name)
    (lower,) = [each for each in metadata if isinstance(each, Ge | Gt)]
    (upper,) = [each for each in metadata if isinstance(each, Le)]
    hint = get_type_hints(strategy, include_extras=True)[name]
    below = lower.ge - 1 if isinstance(lower, Ge) else lower.gt
    for outside in (below, upper.le + 1, float("nan")):
        with pytest.raises(ValidationError):
            TypeAdapter(hint).validate_python(outside)


@pytest.mark.parametrize("strategy", STRATEGIES.values())
def test_every_strategy_says_what_it_is_and_cannot_be_written(strategy: type[Strategy]) -> None:
    assert strategy.__doc__
    assert not strategy.__doc__.startswith(strategy.__name__), "a sentence, not a signature"
    built = strategy()
    with pytest.raises(AttributeError):
        built.num_return_sequences = 2
    assert built == strategy()
    assert hash(built) == hash(strategy())


def test_only_strategies_that_draw_nothing_need_no_seed() -> None:
    deterministic = {name for name, each in STRATEGIES.items() if each().is_deterministic}
    assert deterministic == {
        *("greedy", "beam", "diverse_beam", "constrained_beam", "contrastive"),
        "dola",
    }


@pytest.mark.parametrize(
    ("strategy", "num_rows", "num_results"),
    [
        (Greedy(), 1, 1),
        (Sample(num_return_sequences=3), 3, 3),
        (TopKSampling(num_return_sequences=2), 2, 2),
        (TopPSampling(), 1, 1),
        (Beam(num_beams=5, num_return_sequences=2), 5, 2),
    ],
)
def test_rows_and_results_are_announced(
    strategy: Strategy, num_rows: int, num_results: int
) -> None:
    assert (strategy.num_rows, strategy.num_results) == (num_rows, num_results)


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        (Sample(), {"temperature": 30.0, "top_k": 0, "top_p": 1.0}),
        (Sample(temperature=30.0), {"top_k": 1}),
        (Sample(temperature=30.0, top_k=0), {"top_p": 0.01}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"min_p": 1.0}),
        (Sample(), {"num_return_sequences": 2}),
        (TopKSampling(temperature=30.0), {"top_k": 1}),
        (TopKSampling(), {"temperature": 30.0}),
        (TopKSampling(), {"num_return_sequences": 2}),
        (TopPSampling(temperature=30.0, top_p=1.0), {"top_p": 0.01}),
        (TopPSampling(), {"temperature": 30.0}),
        (TopPSampling(), {"num_return_sequences": 2}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"typical_p": 0.01}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"epsilon_cutoff": 0.5}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"eta_cutoff": 0.9}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"top_h": 0.01}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"top_n_sigma": 0.01}),
        (Sample(temperature=30.0, top_k=0, top_p=1.0), {"dynatemp_range": 30.0}),
        (
            Sample(temperature=30.0, top_k=0, top_p=1.0, dynatemp_range=30.0),
            {"dynatemp_exponent": 100.0},
        ),
        (Sample(temperature=0.01, top_k=0, xtc_threshold=0.0001), {"xtc_probability": 1.0}),
        (Sample(xtc_probability=1.0, xtc_threshold=0.01), {"xtc_threshold": 1.0}),
        (Sample(temperature=30.0), {"samplers": ("top_k", "temperature")}),
        (MinPSampling(temperature=30.0), {"min_p": 1.0}),
        (MinPSampling(), {"temperature": 30.0}),
        (TypicalSampling(temperature=30.0), {"typical_p": 0.01}),
        (TypicalSampling(), {"temperature": 30.0}),
        (EpsilonSampling(temperature=30.0), {"epsilon_cutoff": 0.5}),
        (EpsilonSampling(), {"temperature": 30.0}),
        (EtaSampling(temperature=30.0, eta_cutoff=0.0), {"eta_cutoff": 0.9}),
        (EtaSampling(), {"temperature": 30.0}),
        (TopHSampling(temperature=30.0), {"top_h": 0.01}),
        (TopHSampling(), {"temperature": 30.0}),
        (TopNSigmaSampling(temperature=30.0), {"top_n_sigma": 0.01}),
        (TopNSigmaSampling(top_n_sigma=2.0), {"temperature": 30.0}),
        (XtcSampling(temperature=0.3, xtc_probability=0.0), {"xtc_probability": 1.0}),
        (XtcSampling(temperature=0.3, xtc_probability=1.0), {"xtc_threshold": 1.0}),
        (XtcSampling(temperature=30.0), {"min_p": 1.0}),
        (XtcSampling(), {"temperature": 30.0}),
        (DynamicTemperatureSampling(min_p=0.0), {"dynatemp_range": 90.0}),
        (
            DynamicTemperatureSampling(min_p=0.0, dynatemp_range=90.0),
            {"dynatemp_exponent": 100.0},
        ),
        (DynamicTemperatureSampling(temperature=30.0), {"min_p": 1.0}),
        (DynamicTemperatureSampling(min_p=0.0), {"temperature": 30.0}),
        (Mirostat(), {"mirostat": 1}),
        (Mirostat(temperature=30.0), {"mirostat_tau": 0.1}),
        (Mirostat(), {"temperature": 30.0}),
        (Beam(), {"num_beams": 2}),
    ],
)
def test_every_parameter_of_a_step_has_an_effect(
    strategy: Strategy, changes: dict[str, float]
) -> None:
    logits = random_logits(1, 500, seed=1)
    assert _first_step(strategy, logits) != _first_step(replace(strategy, **changes), logits)


def test_sample_top_k_and_top_p_are_presets_of_one_draw() -> None:
    logits = random_logits(1, 500)
    assert _first_step(TopKSampling(top_k=9), logits) == _first_step(
        Sample(top_k=9, top_p=1.0), logits
    )
    assert _first_step(TopPSampling(top_p=0.6), logits) == _first_step(
        Sample(top_k=0, top_p=0.6), logits
    )


def test_the_seed_of_the_request_is_the_seed_of_the_draw() -> None:
    ask = Sample(num_return_sequences=2).start(TASK).ask
    assert isinstance(ask, Draw)
    assert (ask.seed, ask.count) == (3, 2)


def test_more_sequences_than_beams_are_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="3 sequences cannot come from 2 beams") as refused:
        Beam(num_beams=2, num_return_sequences=3)
    assert refused.value.field == "num_return_sequences"
    assert isinstance(refused.value, ValueError)


def test_a_request_cannot_ask_for_more_rows_than_one_batch_could_ever_hold() -> None:
    hint = get_type_hints(Beam, include_extras=True)["num_beams"]
    TypeAdapter(hint).validate_python(MAX_SEQUENCES)
    with pytest.raises(ValidationError):
        TypeAdapter(hint).validate_python(MAX_SEQUENCES + 1)


@pytest.mark.parametrize(
    ("strategy", "name"), [entry for entry in PARAMETERS if entry[1] in PROCESSING_FIELDS]
)
def test_values_at_the_edge_of_what_is_allowed_give_finite_candidates(
    strategy: type[Strategy], name: str
) -> None:
    hint = get_type_hints(strategy, include_extras=True)[name]
    logits = random_logits(1, 500, spread=30.0)
    drawing = {each.name: True for each in fields(strategy) if each.name == "do_sample"}
    for value in (1e-300, 1e-40, 1e-10, 0.01, 1.0, 100.0, 1, 0, 1_000_000):
        try:
            allowed = TypeAdapter(hint).validate_python(value)
        except ValidationError:
            continue
        found = _first_step(strategy(**(drawing | {name: allowed})), logits)
        scores = torch.tensor([(each.score, each.logprob) for each in found])
        assert scores.numel()
        assert scores.isfinite().all(), f"{name} {value}"
