"""Loads are asked for in mixes of lengths, and the same seed asks the same."""

import json
import random

import pytest

from benchmarks.load.workload import InvalidLoad, Mix, make_requests, read_requests

SHORT = Mix.parse("4", "--prompt-tokens")


@pytest.mark.parametrize(
    ("text", "lengths"),
    [("128", {128}), ("3-5", {3, 4, 5}), ("1:1,7-8:3", {1, 7, 8}), ("1:0,2", {2})],
)
def test_a_mix_draws_what_it_names_and_all_of_it(text, lengths):
    mix, source = Mix.parse(text, "--new-tokens"), random.Random(0)
    assert {mix.draw(source) for _ in range(300)} == lengths


def test_weights_say_how_often_a_length_comes():
    mix, source = Mix.parse("1:1,2:3", "--new-tokens"), random.Random(0)
    drawn = [mix.draw(source) for _ in range(4000)]
    assert drawn.count(2) / len(drawn) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "8-4", "1.5", "a", "4:x", "4:-1", "4:0", "4:nan", "4:1:1", "2000000"]
)
def test_what_is_no_mix_is_refused_with_its_option(text):
    with pytest.raises(InvalidLoad, match="--new-tokens"):
        Mix.parse(text, "--new-tokens")


def test_the_same_seed_asks_the_same_and_another_does_not():
    one, same, other = (
        make_requests(5, prompt=SHORT, answer=SHORT, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_prompts_differ_from_the_beginning_unless_they_share_a_prefix():
    apart = make_requests(50, prompt=Mix.parse("30", ""), answer=SHORT)
    assert len({request.text.split()[0] for request in apart}) > 10
    alike = make_requests(50, prompt=Mix.parse("30", ""), answer=SHORT, shared_prefix=20)
    assert len({tuple(request.text.split()[:20]) for request in alike}) == 1
    assert len({request.text for request in alike}) == 50


def test_prompts_come_from_a_file_again_and_again(tmp_path):
    file = tmp_path / "prompts.jsonl"
    lines = [{"text": "One"}, {"text": "Two", "max_new_tokens": 9}]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    made = read_requests(file, count=3, answer=SHORT)
    assert [(r.text, r.max_new_tokens) for r in made] == [("One", 4), ("Two", 9), ("One", 4)]


@pytest.mark.parametrize(
    "content",
    ["", "text", "[]", '{"prompt": "a"}', '{"text": 1}', '{"text": "a", "max_new_tokens": 0}'],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content):
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises(InvalidLoad, match=r"--prompts .*prompts.jsonl"):
        read_requests(file, count=1, answer=SHORT)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidLoad, match="cannot be read"):
        read_requests(tmp_path / "none", count=1, answer=SHORT)
