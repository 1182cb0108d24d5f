"""Lines of a batch file: bodies with defaults, plain prompts, and mistakes that stay their own."""

import json

import pytest

from app.batch.lines import LineReader
from app.bodies.body_parser import BodyParser
from app.error_replies import describe
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.registry import load_strategies
from decoding.sample import Sample

PARSER = BodyParser(load_strategies())


def reader(*, seed=0, is_text=False, **defaults):
    return LineReader(parser=PARSER, defaults=defaults, seed=seed, is_text=is_text)


def read(value, number=1, **options):
    return reader(**options).read(number, json.dumps(value).encode() + b"\n")


def test_a_line_is_a_body_of_post_generate():
    (request,) = read({"text": "a", "strategy": "beam", "num_beams": 3, "stop": "x"}).requests
    assert request.prompt == "a"
    assert request.strategy == Beam(num_beams=3)
    assert request.stop == ("x",)


def test_defaults_fill_what_a_line_leaves_open():
    given = {"strategy": "beam", "num_beams": 3, "max_new_tokens": 7}
    (request,) = read({"text": "a", "num_beams": 2}, **given).requests
    assert (request.strategy, request.max_new_tokens) == (Beam(num_beams=2), 7)


def test_a_line_with_a_strategy_of_its_own_gets_no_parameters_of_another():
    given = {"strategy": "beam", "num_beams": 3, "max_new_tokens": 7}
    (request,) = read({"text": "a", "strategy": "greedy"}, **given).requests
    assert (request.strategy, request.max_new_tokens) == (Greedy(), 7)


def test_a_length_of_the_line_replaces_the_other_default_length():
    (request,) = read({"text": "a", "max_length": 9}, max_new_tokens=7).requests
    assert (request.max_length, request.max_new_tokens) == (9, None)


def test_a_plain_line_is_a_prompt_without_its_line_break():
    (request,) = reader(is_text=True, strategy="greedy").read(2, b'{"no": "JSON"} \r\n').requests
    assert request.prompt == '{"no": "JSON"} '


def test_a_byte_order_mark_is_no_part_of_the_first_prompt():
    (request,) = reader(is_text=True).read(1, b"\xef\xbb\xbfabc\n").requests
    assert request.prompt == "abc"


@pytest.mark.parametrize("is_text", [False, True])
def test_an_empty_line_asks_for_nothing(is_text):
    assert reader(is_text=is_text).read(1, b" \t\n") is None


def test_draws_get_a_seed_of_the_run_and_the_line():
    def seeds(**options):
        return [request.seed for request in read({"text": ["a", "a"]}, **options).requests]

    assert seeds() == seeds()
    assert len({*seeds(), *seeds(number=2), *seeds(seed=1)}) == 6
    assert all(0 <= seed < 2**53 for seed in seeds())


def test_a_seed_of_the_line_is_kept_and_a_determined_strategy_gets_none():
    assert read({"text": "a", "seed": 5}).requests[0].seed == 5
    assert read({"text": "a", "strategy": "greedy"}).requests[0].seed is None


def test_an_id_is_handed_through_and_no_field_of_the_body():
    assert read({"text": "a", "id": "x7"}).id == "x7"
    assert read({"text": "a", "id": 7}).failure is None


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b'{"text": 1}', "string_type", "text"),
        (b'{"text": "a", "id": []}', "invalid_value", "id"),
        (b'{"text": "a", "top_k": "x"}', "int_type", "top_k"),
        (b"nope", "json_invalid", "position 0"),
        (b"[" * 100_000, "json_invalid", "not valid JSON"),
        (b"[]", "not_an_object", "object"),
        (b"\xff", "not_utf8", "UTF-8"),
    ],
)
def test_a_mistake_is_the_lines_own_failure(raw, code, words):
    line = reader().read(3, raw)
    assert (line.number, line.requests) == (3, ())
    problem = describe(line.failure).problems[0]
    assert problem.code == code
    assert words in f"{problem.param} {problem.message}"


def test_a_digest_changes_with_all_that_decides_the_answer():
    lines = [
        read({"text": "a"}),
        read({"text": "b"}),
        read({"text": "a", "id": 1}),
        read({"text": "a"}, seed=1),
        read({"text": "a"}, max_new_tokens=3),
        reader().read(1, b"a"),
        reader().read(1, b"\xff"),
    ]
    assert len({line.digest for line in lines}) == len(lines)
    assert read({"id": 1, "text": "a"}).digest == read({"text": "a", "id": 1}).digest


def test_the_default_strategy_is_the_services():
    assert isinstance(read({"text": "a"}).requests[0].strategy, Sample)
