"""Whatever the strategy, text that ends by itself follows its schema, regex, choice or grammar."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.text.grammar.spec import GrammarKind, GrammarSpec
from decoding.base import FinishReason
from decoding.registry import STRATEGIES

EVERY_STRATEGY = [strategy() for strategy in STRATEGIES.values()]
NAMES = st.sampled_from(["a", "b", "name", "the key", "é", 'q"uote'])


def objects_of(inner):
    return st.dictionaries(NAMES, inner, max_size=3).flatmap(
        lambda properties: st.sets(st.sampled_from(sorted(properties) or ["a"])).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required & properties.keys()),
                "additionalProperties": False,
            }
        )
    )


def arrays_of(inner):
    return st.builds(
        lambda items, least, more: {
            "type": "array",
            "items": items,
            "minItems": least,
            "maxItems": least + more,
        },
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )


leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
        st.integers(-1000, 1000),
        st.integers(0, 5000),
    ),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 3),
        st.integers(0, 4),
    ),
    st.sampled_from(
        [
            {"type": "string", "pattern": "^[a-c]{2,4}$"},
            {"type": "string", "format": "date"},
            {"enum": ["red", 7, None, {"x": [1]}]},
            {"const": "fixed"},
            {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
        ]
    ),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        objects_of(inner),
        arrays_of(inner),
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=5,
)


@settings(max_examples=100)
@given(schema=schemas, seed=st.integers(0, 1000))
def test_json_of_every_strategy_satisfies_its_schema(write, schema, seed):
    spec = GrammarSpec(kind=GrammarKind.JSON, text=json.dumps(schema))
    validator = Draft202012Validator(schema)
    for name, sequences in write(spec, EVERY_STRATEGY, seed=seed).items():
        assert sequences
        for text, reason in sequences:
            assert reason is FinishReason.EOS, f"{name}: {text!r}"
            validator.validate(json.loads(text))


@pytest.mark.parametrize(
    "pattern", ["[a-f]{3}-[0-9]{2}", "(yes|no) (?i:sir)!?", "a?b?c?", "\\p{Lu}[a-zé]{1,5}", "é{2}☃"]
)
def test_text_matches_its_regex(write, pattern):
    spec = GrammarSpec(kind=GrammarKind.REGEX, text=pattern)
    expected = re.compile(pattern.replace("\\p{Lu}", "[^\\W\\d_a-z]"))
    for name, sequences in write(spec, EVERY_STRATEGY).items():
        for text, reason in sequences:
            assert expected.fullmatch(text), f"{name}: {text!r}"
            assert reason is FinishReason.EOS


def test_text_is_one_of_its_choices(write):
    choices = ["yes", "no", "no way", 'a "quoted"\nline', "ü☃", "back\\slash"]
    spec = GrammarSpec(kind=GrammarKind.CHOICE, text=json.dumps(choices))
    chosen = set()
    for seed in range(6):
        for sequences in write(spec, EVERY_STRATEGY, seed=seed).values():
            chosen |= {text for text, _ in sequences}
    assert chosen <= set(choices)
    assert len(chosen) > 2


def test_thousands_of_choices_can_be_followed(write):
    choices = [f"choice number {at}" for at in range(4000)]
    spec = GrammarSpec(kind=GrammarKind.CHOICE, text=json.dumps(choices))
    for name, sequences in write(spec, EVERY_STRATEGY).items():
        for text, reason in sequences:
            assert text in choices, name
            assert reason is FinishReason.EOS


LARK = """
start: sum
sum: product ("+" product)~0..2
product: NUMBER | "(" NUMBER "*" NUMBER ")"
NUMBER: /[1-9][0-9]?/
"""
GBNF = """
root ::= product ("+" product)?
product ::= number | "(" number "*" number ")"
number ::= [1-9] [0-9]?
"""


@pytest.mark.parametrize("grammar", [LARK, GBNF], ids=["Lark", "GBNF"])
def test_text_follows_its_grammar(write, grammar):
    spec = GrammarSpec(kind=GrammarKind.GRAMMAR, text=grammar)
    number = "[1-9][0-9]?"
    product = rf"({number}|\({number}\*{number}\))"
    for name, sequences in write(spec, EVERY_STRATEGY).items():
        for text, reason in sequences:
            assert re.fullmatch(rf"{product}(\+{product}){{0,2}}", text), f"{name}: {text!r}"
            assert reason is FinishReason.EOS


def test_any_object_is_an_object(write):
    spec = GrammarSpec(kind=GrammarKind.JSON_OBJECT, text="")
    num_complete = 0
    for seed in range(5):
        for sequences in write(spec, EVERY_STRATEGY, seed=seed, max_new_tokens=100).values():
            for text, reason in sequences:
                if reason is FinishReason.EOS:
                    assert isinstance(json.loads(text), dict)
                    num_complete += 1
                else:
                    assert text.lstrip().startswith("{")
    assert num_complete


def test_a_text_that_is_cut_says_so(write):
    spec = GrammarSpec(kind=GrammarKind.REGEX, text="a{50}")
    for sequences in write(spec, EVERY_STRATEGY, max_new_tokens=5).values():
        assert all(reason is FinishReason.LENGTH for _, reason in sequences)
