"""`beamline generate` as a real process: files, pipes, signals, and going on after any end."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import platformdirs
import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.e2e.conftest import START_SECONDS, beamline, server_environment
from tests.engine.exports import save_tiny_llama

STRATEGIES = (
    {"strategy": "greedy"},
    {"strategy": "sample", "temperature": 1.3},
    {"strategy": "beam", "num_beams": 3},
    {"strategy": "sample", "num_return_sequences": 2, "top_p": 0.9},
    {"strategy": "beam_sample", "num_beams": 2},
    {"strategy": "contrastive"},
    {"strategy": "best_of", "stop": ["s"]},
    {"top_k": 5, "repetition_penalty": 1.2},
)


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory) -> Path:
    """A cache whose operators are the user's: compiling them takes longer than all tests here."""
    folder = tmp_path_factory.mktemp("cache")
    operators = Path(platformdirs.user_cache_dir("beamline")) / "operators"
    operators.mkdir(parents=True, exist_ok=True)
    (folder / "operators").symlink_to(operators)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """One that can be exported, so that a run gives the same bits whatever runs side by side."""
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture
def generate(model_folder, cache_folder):
    """Starts `beamline generate` on a tiny model; kills what a test leaves."""
    started = []

    def start(*arguments) -> subprocess.Popen:
        command = beamline("generate", *map(str, arguments), "--model", str(model_folder))
        process = subprocess.Popen(
            [*command, "--max-rows", "8"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=server_environment(BEAMLINE_CACHE_FOLDER=str(cache_folder)),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process, given: bytes = b"") -> tuple[int, bytes, str]:
    answers, words = process.communicate(given, timeout=2 * START_SECONDS)
    return process.returncode, answers, words.decode()


def write_lines(path, count, new_tokens):
    lines = [
        {"text": f"The sea is {i}", "max_new_tokens": new_tokens, "id": i}
        | STRATEGIES[i % len(STRATEGIES)]
        for i in range(count)
    ]
    lines[count // 3] = {"text": "a", "num_beams": "three"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def wait_for_lines(process, path, count):
    """Until the file holds so many lines; files give no sign, so they are looked at."""
    until = time.monotonic() + 2 * START_SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_file_is_answered_and_so_is_a_pipe(generate, tmp_path):
    questions, out = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    write_lines(questions, 9, new_tokens=6)
    code, _, words = finish(generate(questions, "-o", out))
    assert code == 1, words  # one line is wrong
    assert "9 lines in" in words
    assert "1 with errors" in words
    assert "tokens/s" in words
    answers = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [answer["line"] for answer in answers] == list(range(1, 10))
    assert "num_beams" in answers[3]["error"]["message"]
    assert [answer.get("id") for answer in answers] == [0, 1, 2, None, 4, 5, 6, 7, 8]
    assert answers[2]["strategy"] == "beam"
    assert len(answers[0]["generated_text"]) > len("The sea is 0")
    process = generate("-", "-o", "-")
    assert finish(process, questions.read_bytes())[1] == out.read_bytes()


def test_prompts_without_json_get_the_options(generate):
    process = generate("-", "--text", "-s", "beam", "-p", "num_beams=2", "-p", "max_new_tokens=3")
    code, answers, words = finish(process, b"The sea\n\nA ship\n")
    assert code == 0, words
    first, second = map(json.loads, answers.splitlines())
    assert (first["line"], second["line"]) == (1, 3)
    assert first["parameters"]["num_beams"] == 2
    assert second["output_length"] - second["input_length"] == 3


def test_an_interrupted_run_goes_on_where_it_stopped(generate, tmp_path):
    questions, out, whole = (tmp_path / name for name in ("q.jsonl", "a.jsonl", "whole.jsonl"))
    write_lines(questions, 24, new_tokens=8)
    lines = questions.read_bytes().splitlines(keepends=True)
    process = generate("-", "-o", out)
    process.stdin.write(b"".join(lines[:10]))
    process.stdin.flush()
    wait_for_lines(process, out, 10)  # all that it can know: it waits for more
    process.send_signal(signal.SIGINT)
    code, _, words = finish(process)
    assert code == 130, words
    assert "stopped after 10 lines" in words
    assert "--resume" in words
    assert out.read_bytes().count(b"\n") == 10
    out.write_bytes(out.read_bytes()[:-7])  # as if the last line had been torn
    assert finish(generate(questions, "-o", out, "--resume"))[0] in (0, 1)
    assert finish(generate(questions, "-o", whole))[0] == 1
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("at", [3, 130])
def test_a_killed_run_of_hundreds_gives_the_same_file_once_resumed(generate, tmp_path, at):
    questions, out, whole = (tmp_path / name for name in ("q.jsonl", "a.jsonl", "whole.jsonl"))
    write_lines(questions, 300, new_tokens=24)
    process = generate(questions, "-o", out)
    wait_for_lines(process, out, at)
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    assert out.read_bytes().count(b"\n") < 300
    assert finish(generate(questions, "-o", out, "--resume", "--max-in-flight", 12))[0] in (0, 1)
    assert finish(generate(questions, "-o", whole))[0] == 1
    assert out.read_bytes() == whole.read_bytes()


def test_another_model_does_not_go_on_with_the_answers(generate, tmp_path):
    questions, out = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    questions.write_text('{"text": "a", "max_new_tokens": 2}\n{"text": "b"}\n')
    assert finish(generate(questions, "-o", out))[0] == 0
    kept = out.read_bytes().splitlines(keepends=True)[0]
    out.write_bytes(kept)
    code, _, words = finish(generate(questions, "-o", out, "--resume", "--runtime", "torch"))
    assert code == 2
    assert "another model or runtime" in words
    assert out.read_bytes() == kept


@pytest.fixture
def invoke(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "old.jsonl").write_text("precious\n")

    def run(*arguments):
        given = [argument.format(folder=tmp_path) for argument in arguments]
        return CliRunner().invoke(app, ["generate", *given], env={"COLUMNS": "200"})

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}/none"], "no such file"),
        (["{folder}/q.jsonl", "-o", "{folder}/none/a"], "no such folder"),
        (["{folder}/q.jsonl", "-o", "{folder}"], "is no file"),
        (["{folder}/q.jsonl", "-o", "{folder}/q.jsonl"], "is the input itself"),
        (["{folder}/q.jsonl", "-o", "{folder}/old.jsonl"], "--resume goes on"),
        (["{folder}/q.jsonl", "-o", "{folder}/old.jsonl", "--resume"], "is no answer"),
        (["{folder}/q.jsonl", "--resume"], "give one with --output"),
        (["{folder}/q.jsonl", "-o", "{folder}/a", "--resume", "--overwrite"], "contradict"),
        (["{folder}/q.jsonl", "-p", "num_beams"], "NAME=VALUE"),
        (["{folder}/q.jsonl", "-s", "beem"], "--strategy: There is no strategy 'beem'"),
        (["{folder}/q.jsonl", "-p", "num_beams=2"], "-p num_beams: Strategy sample has no"),
        (["{folder}/q.jsonl", "-p", "max_new_tokens=x"], "-p max_new_tokens"),
        (["{folder}/q.jsonl", "--max-rows", "0"], "--max-rows"),
        (["{folder}/q.jsonl", "--max-in-flight", "0"], "--max-in-flight"),
    ],
)
def test_mistakes_are_named_before_the_model_loads(invoke, tmp_path, arguments, words):
    answer = invoke(*arguments)
    assert answer.exit_code == 2, answer.output
    assert words in " ".join(answer.output.split())
    assert (tmp_path / "old.jsonl").read_text() == "precious\n"
