"""TGI's own Python client (`text-generation`) against a real server process.

It needs an older huggingface_hub than we do, so it has an environment of its own.
"""

import json
import subprocess
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[2] / ".venv-clients" / "tgi" / "bin" / "python"
PROGRAM = Path(__file__).parent / "clients" / "tgi_client.py"
PROMPT = "The sea is wide"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="needs `make clients`")


@pytest.fixture(scope="module")
def told(chat_url):
    """What the client got."""
    command = [PYTHON, PROGRAM, chat_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_reads_a_whole_answer(told):
    details = told["answer"]["details"]
    assert (details["finish_reason"], details["generated_tokens"]) == ("length", 8)
    assert details["seed"] == 5
    assert "".join(token["text"] for token in details["prefill"]) == PROMPT
    text = "".join(token["text"] for token in details["tokens"])
    assert text == told["answer"]["generated_text"]
    assert [len(likely) for likely in details["top_tokens"]] == [2] * 8


def test_it_reads_the_best_of_several(told):
    others = told["several"]["details"]["best_of_sequences"]
    assert len({told["several"]["generated_text"], *(x["generated_text"] for x in others)}) == 3


def test_it_gets_what_a_regex_asks_for(told):
    assert told["number"].isdigit()
    assert len(told["number"]) == 4


def test_it_reads_a_stream(told):
    events = told["events"]
    assert len(events) == 8
    text = "".join(event["token"]["text"] for event in events)
    assert events[-1]["generated_text"] == text
    assert events[-1]["details"]["finish_reason"] == "length"
    assert events[-1]["details"]["generated_tokens"] == 8
    assert told["asynchronous"]["text"] == text == "".join(told["asynchronous"]["pieces"])


def test_it_raises_its_own_error_for_a_request_that_does_not_fit(told):
    assert "`max_new_tokens`" in told["refusal"]
