"""The embedded default model, served for real: every strategy writes text."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest

pytestmark = [pytest.mark.smollm2, pytest.mark.slow, pytest.mark.timeout(600)]

STRATEGIES = {
    "greedy": {},
    "sample": {"temperature": 0.7, "seed": 1},
    "top_k": {"top_k": 20, "seed": 1},
    "top_p": {"top_p": 0.9, "seed": 1},
    "beam": {"num_beams": 3},
}


@pytest.fixture(scope="module")
def default_url(serve_forever) -> str:
    """A server without `--model`; it shares the user's cache of converted models."""
    folder = Path(platformdirs.user_cache_dir("beamline"))
    return serve_forever("serve", "--port", "0", "--device", "cpu", cache_folder=folder)


@pytest.fixture
def default_client(default_url, connect):
    with connect(base_url=default_url) as client:
        yield client


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_writes_text(default_client, strategy):
    body = {"text": "The sea is", "strategy": strategy, "max_new_tokens": 12}
    response = default_client.post("/generate", json=body | STRATEGIES[strategy])
    assert response.status_code == 200, response.text
    continuation = response.json()["generated_text"].removeprefix("The sea is")
    assert any(character.isalpha() for character in continuation)


def test_greedy_text_is_what_the_model_says(default_client):
    body = {"text": "The capital of France is", "strategy": "greedy", "max_new_tokens": 5}
    assert "Paris" in default_client.post("/generate", json=body).json()["generated_text"]


def test_chat_message_is_answered(default_client):
    body = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "strategy": "greedy",
        "max_new_tokens": 12,
    }
    assert "Paris" in default_client.post("/generate", json=body).json()["generated_text"]


def test_a_cpu_serves_calibrated_eight_bit_weights_on_onnx(default_client):
    model = default_client.get("/health").json()["model"]
    assert (model["runtime"], model["weights"], model["device"]) == ("onnx", "w8a8", "cpu")


def test_answers_are_the_same_bits_alone_and_among_31_others(default_client):
    prompts = [f"Chapter {number}: the harbour" + " at night" * number for number in range(32)]
    names = list(STRATEGIES)
    bodies = [
        {"text": text, "strategy": names[at % 5], "max_new_tokens": 16}
        | STRATEGIES[names[at % 5]]
        | {"details": True, "cache": False}
        for at, text in enumerate(prompts)
    ]

    def ask(body):
        response = default_client.post("/generate", json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        return answer["generated_text"], answer["details"]["tokens"]  # with log-probabilities

    with ThreadPoolExecutor(len(bodies)) as clients:
        together = list(clients.map(ask, bodies))
    assert together == [ask(body) for body in bodies]
