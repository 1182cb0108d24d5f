"""Calls are read back as they were written, however the text was cut into pieces."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.text.tools.formats import HERMES, LLAMA_3
from app.text.tools.reader import Called, CallReader, Said
from tests.app.text.tools.call_texts import FORMATS

NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,12}\Z")
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=3).map(json.dumps)
CALLS = st.lists(st.tuples(NAMES, OBJECTS), min_size=1, max_size=3)


def read(reader, text, rng):
    """What is read of a text that comes in pieces: what was said, and the calls."""
    pieces = []
    while text:
        size = rng.randint(1, 9)
        pieces += reader.push(text[:size])
        text = text[size:]
    pieces += reader.finish()
    said = "".join(piece.text for piece in pieces if isinstance(piece, Said))
    calls = []
    for piece in pieces:
        if isinstance(piece, Called):
            if piece.name is not None:
                assert piece.index == len(calls)
                calls.append([piece.name, ""])
            assert piece.index == len(calls) - 1
            calls[-1][1] += piece.arguments
    return said, [tuple(call) for call in calls]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=30)
@given(calls=CALLS, seed=st.integers(0, 100))
def test_calls_are_read_as_they_were_written(form, calls, seed):
    calls = calls if form.separator is not None else calls[:1]
    reader = CallReader(form, can_say_first=True)
    assert read(reader, form.write(calls), random.Random(seed)) == ("", calls)
    assert reader.num_calls == len(calls)


@pytest.mark.parametrize(
    "form", [form for form in FORMATS.values() if form.trigger], ids=lambda form: form.trigger
)
@settings(max_examples=30)
@given(calls=CALLS, said=st.text(max_size=20), seed=st.integers(0, 100))
def test_what_is_said_before_calls_is_kept_apart(form, calls, said, seed):
    reader = CallReader(form, can_say_first=True)
    expected = said.rstrip(), calls
    assert read(reader, f"{said}\n{form.write(calls)}", random.Random(seed)) == expected


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=30)
@given(said=st.text(max_size=20), seed=st.integers(0, 100))
def test_a_text_without_calls_is_said_to_the_letter(form, said, seed):
    said = said.lstrip("{") if not form.trigger else said
    for text in (said, f"{said}{form.trigger[:3]}", f"{said} \n"):
        reader = CallReader(form, can_say_first=True)
        assert read(reader, text, random.Random(seed)) == (text, [])
        assert reader.num_calls == 0


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=30)
@given(calls=CALLS, cut=st.integers(0, 400), seed=st.integers(0, 100))
def test_a_cut_text_gives_the_calls_that_had_begun_as_far_as_they_came(form, calls, cut, seed):
    calls = calls if form.separator is not None else calls[:1]
    text = form.write(calls)[:cut]
    _, got = read(CallReader(form, can_say_first=False), text, random.Random(seed))
    assert [name for name, _ in got] == [name for name, _ in calls[: len(got)]]
    for (_, arguments), (_, whole) in zip(got[:-1], calls, strict=False):
        assert arguments == whole
    if got:
        assert calls[len(got) - 1][1].startswith(got[-1][1])


@given(cut=st.integers(1, 30))
def test_nothing_waits_longer_than_it_must(cut):
    reader = CallReader(HERMES, can_say_first=True)
    text = "say <tool and <b>, then x"[:cut]
    pieces = reader.push(text)
    shown = "".join(piece.text for piece in pieces)
    held = text[len(shown) :]
    assert held.strip() == "" or HERMES.trigger.startswith(held.strip())


def test_arguments_come_as_they_are_written():
    reader = CallReader(HERMES, can_say_first=True)
    reader.push('<tool_call>\n{"name": "f", "arguments": ')
    assert reader.push('{"a"') == [Called(index=0, name=None, arguments='{"a"')]
    assert reader.push(': "}') == [Called(index=0, name=None, arguments=': "}')]
    assert reader.push('"}}\n</tool') == [Called(index=0, name=None, arguments='"}')]
    assert reader.push("_call>") == []
    assert reader.finish() == []


def test_a_trigger_within_a_text_that_cannot_be_a_call_is_text():
    reader = CallReader(HERMES, can_say_first=False)
    text = '{"said": "<tool_call>"}'
    assert read(reader, text, random.Random(0)) == (text, [])


def test_a_brace_begins_a_call_only_where_a_text_begins():
    reader = CallReader(LLAMA_3, can_say_first=True)
    text = 'As in {"name": "f", "parameters": {}}'
    assert read(reader, text, random.Random(0)) == (text, [])
