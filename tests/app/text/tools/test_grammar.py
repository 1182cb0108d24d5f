"""Whatever tokens are chosen, calls parse and their arguments satisfy their schemas."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.errors import InvalidRequest
from app.generation.call_grammars import CallGrammars
from app.text.codec import TextCodec
from app.text.grammar.compiler import GrammarCompiler
from app.text.grammar.spec import GrammarKind, GrammarSpec
from app.text.request import TextRequest
from app.text.tools.reader import Called, CallReader, Said
from decoding.base import FinishReason
from decoding.greedy import Greedy
from decoding.registry import STRATEGIES
from tests.app.text.grammar.test_structured_output import objects_of, schemas
from tests.app.text.tools.call_texts import FORMATS, THINK, TOKENIZERS, function, use

LEVEL = {
    "type": "object",
    "properties": {"level": {"enum": [1, 2, 3]}, "deep": {"type": "boolean"}},
    "required": ["level"],
    "additionalProperties": False,
}
SET_LEVEL = function("set_level", json.dumps(LEVEL))
SET = function("set")
MOST_TOKENS = 3000


class Speaker:
    """Says and calls at random what one model's grammar allows."""

    def __init__(self, form, tokenizer):
        self.form = form
        self.end = tokenizer.eos_token_id
        self.codec = TextCodec(tokenizer)
        # A tiny tokenizer has no template to tell the format by.
        self.codec._template.call_format = form
        compiler = GrammarCompiler.build(
            tokenizer, vocab_size=len(tokenizer), eos_token_ids=frozenset({self.end})
        )
        self.grammars = CallGrammars(self.codec, compiler)

    def constraint(self, tools, content=None):
        request = TextRequest(
            prompt="x", prompt_field="text", strategy=Greedy(), tools=tools, grammar=content
        )
        return self.grammars.constraint(request, self.grammars.grammar_of(request))

    def allowed(self, constraint, ids):
        packed = constraint.allowed(ids)
        return np.unpackbits(packed.view(np.uint8), bitorder="little").nonzero()[0].tolist()

    def go_on(self, constraint, begun, rng):
        """The tokens of a whole text that begins with some; ends where it may."""
        ids = list(begun)
        while len(ids) < MOST_TOKENS:
            allowed = self.allowed(constraint, ids)
            if self.end in allowed:
                return ids
            ids.append(rng.choice(allowed))
        raise AssertionError(self.text(ids))

    def text(self, ids):
        return self.codec.showing(self.grammars.shown_ids).decode(ids)

    def calls(self, ids, *, can_say_first=True):
        reader = CallReader(self.form, can_say_first=can_say_first)
        pieces = reader.push(self.text(ids)) + reader.finish()
        said = "".join(piece.text for piece in pieces if isinstance(piece, Said))
        called = [piece for piece in pieces if isinstance(piece, Called)]
        names = [piece.name for piece in called if piece.name is not None]
        arguments = [
            "".join(piece.arguments for piece in called if piece.index == at)
            for at in range(len(names))
        ]
        return said, list(zip(names, map(json.loads, arguments), strict=True))


@pytest.fixture(scope="session")
def speakers():
    made = {}

    def speaker(form, tokenizer):
        if (form, tokenizer) not in made:
            made[form, tokenizer] = Speaker(FORMATS[form], TOKENIZERS[tokenizer]())
        return made[form, tokenizer]

    return speaker


every_form = pytest.mark.parametrize("form", FORMATS)
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS)


@every_form
@every_tokenizer
def test_a_forced_text_is_calls_that_satisfy_their_schemas(speakers, form, tokenizer):
    speaker = speakers(form, tokenizer)
    constraint = speaker.constraint(use(SET_LEVEL, SET, must_call=True))
    called = set()
    for seed in range(8):
        ids = speaker.go_on(constraint, [], random.Random(seed))
        said, calls = speaker.calls(ids, can_say_first=False)
        assert not said
        assert calls
        for name, arguments in calls:
            called.add(name)
            Draft202012Validator(LEVEL if name == "set_level" else {}).validate(arguments)
    assert called == {"set", "set_level"}


@every_form
@every_tokenizer
def test_several_calls_follow_each_other_where_they_may(speakers, form, tokenizer):
    speaker = speakers(form, tokenizer)
    whole = [("set", "{}"), ("set_level", '{"level": 2}')]
    text = speaker.form.write(whole[:1] if speaker.form.separator is None else whole)
    ids = speaker.codec.encode(text)
    several, single = (
        speaker.constraint(use(SET_LEVEL, SET, must_call=True, allows_several=allows))
        for allows in (True, False)
    )
    assert speaker.end in speaker.allowed(several, ids)
    if speaker.form.separator is not None:
        assert speaker.allowed(single, ids) == [], "a second call leaves the grammar"
    one = speaker.codec.encode(speaker.form.write(whole[:1]))
    assert speaker.allowed(single, one) == [speaker.end]


@every_form
@every_tokenizer
def test_a_free_text_becomes_a_call_where_it_says_so(speakers, form, tokenizer):
    speaker = speakers(form, tokenizer)
    constraint = speaker.constraint(use(SET_LEVEL, SET))
    said = "" if not speaker.form.trigger else "numbers 1 and 2\n"
    begun = speaker.codec.encode(said + speaker.form.first_head)
    for seed in range(4):
        got, calls = speaker.calls(speaker.go_on(constraint, begun, random.Random(seed)))
        assert got == said.rstrip()
        assert {name for name, _ in calls} <= {"set", "set_level"}
        assert calls
    assert (
        speaker.allowed(constraint, speaker.codec.encode(said + speaker.form.first_head + "x"))
        == []
    )


@every_form
@every_tokenizer
def test_a_free_text_may_be_anything_else(speakers, form, tokenizer):
    speaker = speakers(form, tokenizer)
    constraint = speaker.constraint(use(SET_LEVEL))
    texts = ["", "the quick < brown [TOOL", "a\n\n{}", "日本語 😀", " <tool_cal>", f"hm {THINK} so"]
    for text in texts:
        ids = speaker.codec.encode(text)
        assert speaker.end in speaker.allowed(constraint, ids), text
        assert speaker.calls(ids) == (text, [])


@pytest.mark.parametrize("tokenizer", ["marked", "special"])
@pytest.mark.parametrize("form", [name for name in FORMATS if name != "llama 3"])
def test_a_trigger_counts_also_where_it_is_spelled(speakers, form, tokenizer):
    speaker, speller = speakers(form, tokenizer), speakers(form, "spelled")
    ids = speller.codec.encode(speaker.form.trigger)
    assert len(ids) > 1
    constraint = speaker.constraint(use(SET))
    assert speaker.end not in speaker.allowed(constraint, ids)
    said, calls = speaker.calls(speaker.go_on(constraint, ids, random.Random(0)))
    assert not said
    assert calls[0] == ("set", {})


@every_form
def test_only_what_may_be_called_is(speakers, form):
    speaker = speakers(form, "marked")
    constraint = speaker.constraint(use(SET_LEVEL, SET, only=["set"], must_call=True))
    for seed in range(4):
        ids = speaker.go_on(constraint, [], random.Random(seed))
        assert {name for name, _ in speaker.calls(ids, can_say_first=False)[1]} == {"set"}


@settings(max_examples=40)
@given(schema=objects_of(schemas), seed=st.integers(0, 1000), form=st.sampled_from(sorted(FORMATS)))
def test_arguments_satisfy_any_schema(speakers, schema, seed, form):
    speaker = speakers(form, "special")
    tools = use(function("f", json.dumps(schema)), must_call=True, allows_several=False)
    ids = speaker.go_on(speaker.constraint(tools), [], random.Random(seed))
    ((name, arguments),) = speaker.calls(ids, can_say_first=False)[1]
    assert name == "f"
    Draft202012Validator(schema).validate(arguments)


def test_calls_of_every_strategy_satisfy_their_schema(write, grammars, byte_level_tokenizer):
    codec = TextCodec(byte_level_tokenizer)
    request = TextRequest(
        prompt="x",
        prompt_field="text",
        strategy=Greedy(),
        tools=use(SET_LEVEL, must_call=True, allows_several=False),
    )
    spec = CallGrammars(codec, grammars).grammar_of(request)
    for name, sequences in write(spec, [each() for each in STRATEGIES.values()]).items():
        for text, reason in sequences:
            assert reason is FinishReason.EOS, f"{name}: {text!r}"
            reader = CallReader(codec.call_format, can_say_first=False)
            begun, *arguments = reader.push(text)
            assert begun == Called(index=0, name="set_level", arguments="")
            written = "".join(piece.arguments for piece in arguments)
            Draft202012Validator(LEVEL).validate(json.loads(written))


@every_tokenizer
def test_what_is_not_called_can_be_held_to_a_schema(speakers, tokenizer):
    speaker = speakers("hermes", tokenizer)
    content = GrammarSpec(kind=GrammarKind.JSON, text=json.dumps(LEVEL))
    constraint = speaker.constraint(use(SET), content)
    kinds = set()
    for seed in range(12):
        text = speaker.text(speaker.go_on(constraint, [], random.Random(seed)))
        kinds.add(text[0])
        if text[0] == "{":
            Draft202012Validator(LEVEL).validate(json.loads(text))
        else:
            assert speaker.calls(speaker.codec.encode(text))[1][0] == ("set", {})
    assert kinds == {"{", "<"}


def test_forms_that_cannot_be_told_from_calls_are_refused(speakers):
    content = GrammarSpec(kind=GrammarKind.JSON_OBJECT, text="")
    with pytest.raises(InvalidRequest, match="could not be told from a call") as refused:
        speakers("llama 3", "marked").constraint(use(SET), content)
    assert refused.value.param == "tools"
    regex = GrammarSpec(kind=GrammarKind.REGEX, text="a+")
    with pytest.raises(InvalidRequest, match="held to a regex"):
        speakers("hermes", "marked").constraint(use(SET), regex)
    with pytest.raises(InvalidRequest, match="must be a call") as refused:
        speakers("hermes", "marked").constraint(use(SET, must_call=True), content)
    assert refused.value.param == "tool_choice"


def test_a_schema_that_cannot_be_followed_is_refused_by_its_field(speakers):
    odd = '{"type": "object", "properties": {"a": {"type": "string", "not": {"const": "a"}}}}'
    speaker = speakers("hermes", "marked")
    with pytest.raises(InvalidRequest, match="The schema of odd cannot be followed") as refused:
        speaker.constraint(use(SET, function("odd", odd)))
    assert refused.value.param == "tools.odd"
    lenient = use(SET, function("odd", odd, is_strict=False))
    assert speaker.constraint(lenient) is not None


def test_a_tokenizer_that_cannot_be_read_refuses_tools(byte_level_tokenizer):
    nobody = GrammarCompiler.build(byte_level_tokenizer, vocab_size=0, eos_token_ids=frozenset())
    request = TextRequest(
        prompt="x", prompt_field="text", strategy=Greedy(), tools=use(SET, must_call=True)
    )
    grammars = CallGrammars(TextCodec(byte_level_tokenizer), nobody)
    with pytest.raises(InvalidRequest, match="leave tools out") as refused:
        grammars.constraint(request, grammars.grammar_of(request))
    assert refused.value.param == "tools"


def test_a_schema_does_not_choose_how_it_is_followed(speakers):
    sly = '{"type": "object", "x-guidance": {"lenient": true}, "properties": {"a": {"not": {}}}}'
    with pytest.raises(InvalidRequest):
        speakers("hermes", "marked").constraint(use(function("sly", sly)))


def test_thousands_of_blanks_do_not_fit_into_arguments(speakers):
    speaker = speakers("hermes", "spelled")
    constraint = speaker.constraint(use(SET_LEVEL))
    begun = speaker.form.first_head + "set_level" + speaker.form.before_arguments + "{"
    assert speaker.allowed(constraint, speaker.codec.encode(begun + " " * 32)) != []
    assert speaker.allowed(constraint, speaker.codec.encode(begun + " " * 33)) == []
