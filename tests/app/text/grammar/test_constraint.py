"""A constraint is a pure function of the tokens, whatever it was asked before."""

import numpy as np
import pytest

from app.errors import InvalidRequest
from app.text.grammar.compiler import GrammarCompiler
from app.text.grammar.constraint import REMEMBERED_PER_ROW
from app.text.grammar.spec import GrammarKind, GrammarSpec
from decoding.constraint import ConstraintFailed

SPEC = GrammarSpec(kind=GrammarKind.REGEX, text="(ab|ac|xyz)+[0-9]{2}")


def tokens_in(packed):
    return set(np.unpackbits(packed.view(np.uint8), bitorder="little").nonzero()[0].tolist())


@pytest.fixture
def constraint(grammars):
    return grammars.compile(SPEC, num_rows=1)


@pytest.fixture
def encode(byte_level_tokenizer):
    return lambda text: [
        byte_level_tokenizer.encode(character, add_special_tokens=False)[0] for character in text
    ]


def test_only_what_continues_the_grammar_is_allowed(constraint, encode, byte_level_tokenizer):
    first = tokens_in(constraint.allowed([]))
    assert {byte_level_tokenizer.decode([each])[0] for each in first} == {"a", "x"}
    after = tokens_in(constraint.allowed(encode("a")))
    assert {byte_level_tokenizer.decode([each])[0] for each in after} == {"b", "c"}


def test_the_end_is_allowed_where_the_text_is_complete_and_nowhere_else(constraint, encode, end):
    assert end not in tokens_in(constraint.allowed(encode("ab1")))
    assert tokens_in(constraint.allowed(encode("ab12"))) == {end}


def test_forks_and_forgotten_texts_get_what_a_fresh_constraint_gives(grammars, constraint, encode):
    texts = ["", "a", "ab", "aba", "abac", "x", "xy", "xyz", "xyz0", "a", "ab", "ac", "abac", ""]
    many = [
        text + "ab" * count for count in range(6) for text in texts if text in ("", "ab", "xyz")
    ]
    assert len({*texts, *many}) > REMEMBERED_PER_ROW
    for text in (*texts, *many, *texts):
        fresh = grammars.compile(SPEC, num_rows=2)
        assert tokens_in(constraint.allowed(encode(text))) == tokens_in(fresh.allowed(encode(text)))


def test_nothing_may_follow_a_text_outside_the_grammar(constraint, encode):
    assert tokens_in(constraint.allowed(encode("q"))) == set()
    assert tokens_in(constraint.allowed(encode("abq"))) == set()
    assert tokens_in(constraint.allowed([])), "other texts are not harmed"


def test_a_grammar_that_becomes_too_complex_fails_with_words(grammars, encode):
    spec = GrammarSpec(kind=GrammarKind.REGEX, text="(.*a.{0,200}b.*){1,50}")
    constraint = grammars.compile(spec, num_rows=1)
    (a, b) = encode("ab")

    def go_on():
        for length in range(400):
            constraint.allowed([a, b] * length)

    with pytest.raises(ConstraintFailed, match="too complex to go on; simplify it"):
        go_on()


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (GrammarKind.REGEX, "(", "unclosed group"),
        (GrammarKind.REGEX, "(?=x)", "look-around"),
        (GrammarKind.JSON, '{"type": "strin"}', "strin"),
        (GrammarKind.JSON, '{"type": "string", "not": {"const": "a"}}', "not"),
        (GrammarKind.JSON, '{"$ref": "#"}', "correct or simplify"),
        (GrammarKind.JSON, '{"$ref": "https://example.com/x.json"}', "correct or simplify"),
        (GrammarKind.GRAMMAR, "start: missing", "missing"),
        (GrammarKind.GRAMMAR, "not a grammar", "correct or simplify"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_field_with_the_reason(grammars, kind, text, says):
    with pytest.raises(InvalidRequest) as refused:
        grammars.compile(GrammarSpec(kind=kind, text=text), num_rows=1)
    assert refused.value.param == f"structured_outputs.{kind}"
    assert says.lower() in str(refused.value).lower()


def test_a_tokenizer_that_cannot_be_read_refuses_every_grammar(piece_tokenizer):
    nobody = GrammarCompiler.build(piece_tokenizer, vocab_size=420, eos_token_ids=frozenset())
    with pytest.raises(InvalidRequest, match="leave this out"):
        nobody.compile(SPEC, num_rows=1)
