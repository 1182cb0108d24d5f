"""What a row may be asked for: neutral by default, impossible values refused."""

import math

import pytest
import torch

from decoding.params import Processing
from decoding.processors.chain import Filtering, apply_filters


def test_defaults_do_nothing() -> None:
    scores = torch.randn(3, 50)
    assert apply_filters(scores, [Filtering(Processing())] * 3) is scores


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("min_p", math.nan),
        ("typical_p", 0.0),
        ("top_h", 0.0),
        ("top_h", 1.1),
        ("top_n_sigma", -1.0),
        ("epsilon_cutoff", -0.1),
        ("eta_cutoff", math.nan),
        ("xtc_probability", 1.1),
        ("xtc_threshold", 0.0),
        ("dynatemp_range", -1.0),
    ],
)
def test_a_value_the_maths_cannot_work_with_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Processing(**{field: value})


def test_an_order_that_names_no_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="no sampler 'topk'"):
        Processing(samplers=("topk",))
