"""What TGI's parameters mean to us: the strategy they choose, and the words for mistakes."""

import pytest
from pydantic import ValidationError

from app.tgi.request import TgiUnion
from decoding.best_of import BestOf
from decoding.greedy import Greedy
from decoding.registry import STRATEGIES
from decoding.sample import Sample

MODEL = TgiUnion(STRATEGIES).model
FREE = Sample(temperature=1.0, top_k=0, top_p=1.0, typical_p=1.0)  # from all tokens as they are


def call_of(*, stream=None, **parameters):
    return MODEL(inputs="a", parameters=parameters, stream=stream).as_call()


def strategy_of(**parameters):
    return call_of(**parameters).request.strategy


def mistakes_of(**body):
    with pytest.raises(ValidationError) as caught:
        MODEL.model_validate({"inputs": "a", **body})
    return {
        ".".join(map(str, error["loc"])): (error["type"], error["msg"])
        for error in caught.value.errors()
    }


def test_without_any_parameters_a_text_is_drawn():
    assert MODEL(inputs="a").as_call().request.strategy == FREE
    assert MODEL(inputs="a", parameters=None).as_call().request.strategy == FREE


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"do_sample": False},
        {"do_sample": None},
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "typical_p": 1.0},
        {"temperature": 1, "best_of": 1},
        {"strategy": None},
    ],
)
def test_parameters_that_ask_for_no_sampling_are_greedy(parameters):
    assert strategy_of(**parameters) == Greedy()


@pytest.mark.parametrize(
    ("parameters", "strategy"),
    [
        ({"do_sample": True}, FREE),
        ({"temperature": 0.5}, Sample(temperature=0.5, top_k=0, top_p=1.0)),
        ({"top_k": 10}, Sample(top_k=10, top_p=1.0)),
        ({"top_p": 0.5}, Sample(top_k=0, top_p=0.5)),
        ({"typical_p": 0.5}, Sample(top_k=0, top_p=1.0, typical_p=0.5)),
        ({"do_sample": True, "min_p": 0.1}, Sample(top_k=0, top_p=1.0, min_p=0.1)),
    ],
    ids=str,
)
def test_a_filter_alone_means_sampling_and_nothing_else_is_cut_off(parameters, strategy):
    assert strategy_of(**parameters) == strategy


def test_best_of_returns_the_others_only_if_they_are_told():
    best = BestOf(best_of=3, top_k=0, top_p=1.0)
    assert strategy_of(best_of=3, do_sample=True) == best
    several = BestOf(best_of=3, num_return_sequences=3, top_k=0, top_p=1.0)
    assert strategy_of(best_of=3, do_sample=True, details=True) == several


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_can_be_named(name):
    needed = {"force_words": ["a"]} if name == "constrained_beam" else {}
    named = strategy_of(strategy=name, **needed)
    assert type(named) is STRATEGIES[name]
    if not needed:
        assert named == STRATEGIES[name]()


def test_do_sample_goes_to_a_strategy_that_has_it():
    assert strategy_of(strategy="dola", do_sample=True).do_sample is True
    assert strategy_of(strategy="dola").do_sample is False
    assert strategy_of(strategy="sample", do_sample=True) == STRATEGIES["sample"]()


def test_a_strategy_takes_its_own_fields_beside_tgis():
    call = call_of(strategy="beam", num_beams=3, repetition_penalty=1.2, presence_penalty=0.5)
    assert call.request.strategy == STRATEGIES["beam"](num_beams=3)
    assert call.request.adjustments.repetition_penalty == 1.2
    assert call.request.adjustments.presence_penalty == 0.5


def test_null_stands_for_leaving_a_parameter_out():
    nothing = dict.fromkeys(
        [
            *("adapter_id", "best_of", "decoder_input_details", "details", "do_sample"),
            *("frequency_penalty", "grammar", "max_new_tokens", "repetition_penalty"),
            *("return_full_text", "seed", "stop", "temperature", "top_k", "top_n_tokens"),
            *("top_p", "truncate", "typical_p", "watermark"),
        ]
    )
    assert call_of(**nothing) == call_of()


def test_the_length_is_open_unless_it_is_given():
    assert call_of().request.max_new_tokens is None
    assert call_of(max_new_tokens=7).request.max_new_tokens == 7


def test_the_watermark_is_tgis():
    marked = call_of(watermark=True).request.adjustments.watermark
    assert (marked.greenlist_ratio, marked.bias, marked.hashing_key) == (0.5, 2.0, 15_485_863)
    assert call_of(watermark=False).request.adjustments.watermark is None
    own = call_of(watermark={"bias": 3.0}).request.adjustments.watermark
    assert (own.greenlist_ratio, own.bias) == (0.25, 3.0)


def test_a_stop_string_stays_in_the_text_unless_that_is_refused():
    assert call_of(stop=["x"]).request.keeps_stop is True
    assert call_of(stop=["x"], include_stop_str_in_output=False).request.keeps_stop is False
    assert call_of(stop=[]).request.keeps_stop is False


@pytest.mark.parametrize(
    ("parameters", "field", "says"),
    [
        ({"adapter_id": "x"}, "adapter_id", "no adapters"),
        ({"best_of": 2}, "best_of", "do_sample"),
        ({"best_of": 0, "do_sample": True}, "best_of", "greater than or equal to 1"),
        ({"temperature": 0.0}, "temperature", "greater than or equal"),
        ({"temperature": True}, "temperature", "number"),
        ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
        ({"top_k": -1}, "top_k", "greater than or equal to 0"),
        ({"max_new_tokens": 0}, "max_new_tokens", "greater than or equal to 1"),
        ({"truncate": 0}, "truncate", "greater than or equal to 1"),
        ({"truncate": 3, "truncate_prompt_tokens": 3}, "truncate_prompt_tokens", "same as"),
        ({"top_n_tokens": 21}, "top_n_tokens", "less than or equal to 20"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"details": "yes"}, "details", "boolean"),
        ({"watermark": 3}, "watermark", "object"),
        ({"num_beams": 3}, "num_beams", "one that has it: beam"),
        ({"strategy": "beam", "temperature": 0.5}, "temperature", "Strategy beam has no"),
        ({"strategy": "beam", "do_sample": True}, "do_sample", "draws nothing"),
        ({"do_sample": "yes"}, "do_sample", "boolean"),
        ({"strategy": "dola", "do_sample": 3}, "do_sample", "boolean"),
        ({"strategy": "bean"}, "strategy", "Did you mean beam?"),
        ({"strategy": "sample", "num_return_sequences": 2}, "details", "best_of_sequences"),
        ({"text": "a"}, "text", "`inputs`"),
        ({"messages": []}, "messages", "/v1/chat/completions"),
        ({"top_logprobs": 3}, "top_logprobs", "top_n_tokens"),
        ({"prompt_logprobs": 3}, "prompt_logprobs", "decoder_input_details"),
        ({"max_new_token": 3}, "max_new_token", "Did you mean max_new_tokens?"),
        ({"grammar": {"type": "json", "value": "{"}}, "grammar", "no JSON"),
        ({"grammar": {"type": "xml", "value": "{"}}, "grammar", "json_schema"),
        (
            {
                "grammar": {"type": "regex", "value": "a"},
                "structured_outputs": {"regex": "b"},
            },
            "structured_outputs",
            "grammar or structured_outputs",
        ),
    ],
    ids=str,
)
def test_a_mistake_names_the_parameter(parameters, field, says):
    _, message = mistakes_of(parameters=parameters)[f"parameters.{field}"]
    assert says in message


def test_mistakes_beside_the_parameters_are_named():
    found = mistakes_of(inputs="", colour=1, parameters=3)
    assert set(found) == {"inputs", "colour", "parameters"}
    assert "JSON object" in found["parameters"][1]


def test_further_grammars_of_ours_can_be_asked_for():
    call = call_of(structured_outputs={"choice": ["a", "b"]})
    assert call.request.grammar.kind == "choice"
