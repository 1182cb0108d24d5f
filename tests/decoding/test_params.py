"""What a row may be asked for: neutral by default, impossible values refused."""

import math

import pytest

from decoding.params import Processing


def test_defaults_do_nothing() -> None:
    assert Processing() == Processing(
        repetition_penalty=1.0, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", math.nan),
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
    ],
)
def test_a_value_the_maths_cannot_work_with_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Processing(**{field: value})
