"""`beamline bench` against a real server: table, JSON, plot, and clear words for mistakes."""

import json

import pytest
from typer.testing import CliRunner

from app.cli import app


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)], env={"COLUMNS": "200"})


def test_loads_are_measured_and_written_down(shared_url, tmp_path):
    results, picture = tmp_path / "load.json", tmp_path / "load.png"
    answer = bench(
        *(shared_url, "--concurrency", "1,4", "--requests", 6, "--new-tokens", "3-5"),
        *("--prompt-tokens", 8, "--body", '{"strategy": "greedy"}'),
        *("--json", results, "--records", "--plot", picture, "--api-key", "sk-a-secret"),
    )
    assert answer.exit_code == 0, answer.output
    assert "4 clients" in answer.output
    loads = json.loads(results.read_text())["loads"]
    assert list(loads) == ["1 client", "4 clients"]
    assert "sk-a-secret" not in results.read_text()
    for load in loads.values():
        assert (load["answers"], load["errors"]) == (6, {})
        assert all(3 <= record["num_new_tokens"] <= 5 for record in load["records"])
        assert load["time_to_first_token"]["percentiles"]["50"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_arrivals_at_random_are_measured(shared_url):
    answer = bench(shared_url, "--rate", 50, "--requests", 5, "--new-tokens", 2)
    assert answer.exit_code == 0, answer.output
    assert "50 requests/s" in answer.output


def test_a_load_that_nobody_answers_fails():
    answer = bench("http://127.0.0.1:9", "--requests", 2, "--warm-up", 0)
    assert answer.exit_code == 1
    assert "no request was answered" in answer.output


def test_a_server_that_does_not_answer_the_warm_up_gets_no_load():
    answer = bench("http://127.0.0.1:9", "--requests", 10**4)
    assert answer.exit_code == 1
    assert "no request of the warm-up was answered" in answer.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--concurrency", "0"], "--concurrency"),
        (["--concurrency", "8,8"], "each once"),
        (["--model", "m"], "--model"),
        (["--prompts", "p", "--shared-prefix-tokens", "4"], "--shared-prefix-tokens"),
        (["--concurrency", "2", "--rate", "1"], "choose one"),
        (["--rate", "0"], "--rate"),
        (["--prompt-tokens", "x"], "--prompt-tokens"),
        (["--body", "[]"], "--body"),
        (["--records"], "--json"),
        (["--plot", "a.txt"], "--plot"),
        (["--json", "/no/such/folder/a.json"], "--json"),
        (["--prompts", "/no/such/file"], "--prompts"),
    ],
)
def test_mistakes_are_named_before_anything_is_sent(arguments, words):
    answer = bench("http://127.0.0.1:9", *arguments)
    assert answer.exit_code == 2
    assert words in answer.output


def test_a_url_without_a_scheme_is_refused():
    answer = bench("127.0.0.1:8000")
    assert answer.exit_code == 2
    assert "http://" in answer.output
