"""What OpenAI's parameters come down to where no strategy is named."""

import pytest

from app.openai.default_strategy import DefaultStrategy
from decoding.best_of import BestOf
from decoding.errors import InvalidParameter
from decoding.greedy import Greedy
from decoding.sample import Sample


def test_temperature_zero_is_greedy_whatever_keeps_the_best():
    asked = DefaultStrategy(temperature=0.0, top_p=0.5, top_k=3, min_p=0.1)
    assert asked.resolved() == Greedy()


def test_without_anything_the_model_s_own_distribution_is_drawn_from():
    assert DefaultStrategy().resolved() == Sample(temperature=1.0, top_k=0, top_p=1.0)


def test_best_of_draws_more_than_it_returns():
    asked = DefaultStrategy(best_of=5, num_return_sequences=2, temperature=0.5)
    expected = BestOf(best_of=5, num_return_sequences=2, temperature=0.5, top_k=0, top_p=1.0)
    assert asked.resolved() == expected


def test_samplers_need_not_name_filters_that_nobody_asked_for():
    asked = DefaultStrategy(samplers=("min_p",), min_p=0.2)
    assert asked.resolved().samplers == ("min_p",)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"temperature": 0.001}, "temperature"),
        ({"temperature": 0.0, "num_return_sequences": 2}, "num_return_sequences"),
        ({"temperature": 0.0, "best_of": 2}, "best_of"),
        ({"temperature": 0.0, "typical_p": 0.5}, "typical_p"),
        ({"temperature": 0.0, "xtc_probability": 0.5}, "xtc_probability"),
    ],
)
def test_what_would_have_no_effect_is_refused(asked, field):
    with pytest.raises(InvalidParameter) as raised:
        DefaultStrategy(**asked)
    assert raised.value.field == field


def test_more_answers_than_samples_are_refused():
    with pytest.raises(InvalidParameter):
        DefaultStrategy(best_of=2, num_return_sequences=3).resolved()
