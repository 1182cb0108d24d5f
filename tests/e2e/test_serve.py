"""`beamline serve` as a user meets it: starting, answering, and refusing to start."""

import json
import re
import socket
import sys
import threading

import httpx
import pytest

STRATEGIES = {
    "greedy": {},
    "sample": {"temperature": 0.8, "seed": 1},
    "top_k": {"top_k": 5, "seed": 1},
    "top_p": {"top_p": 0.9, "seed": 1},
    "beam": {"num_beams": 3},
}


def metric(client: httpx.Client, name: str) -> float:
    match = re.search(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert match, f"no metric {name}"
    return float(match[1])


def wait_for_metric(client: httpx.Client, name: str, value: float) -> None:
    pause = threading.Event()
    while metric(client, name) != value:  # the test's own time limit ends a vain wait
        pause.wait(0.02)


def events_of(response: httpx.Response) -> list[dict]:
    """The data of each server-sent event."""
    return [
        json.loads(line.removeprefix("data:"))
        for line in response.iter_lines()
        if line.startswith("data:")
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_answers(client, strategy):
    body = {"text": "The sea", "strategy": strategy, "max_new_tokens": 5, **STRATEGIES[strategy]}
    response = client.post("/generate", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["strategy"] == strategy
    assert answer["generated_text"].startswith("The sea")
    assert answer["output_length"] == answer["input_length"] + 5
    assert answer["finish_reason"] == "length"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_streams_the_same_answer(client, strategy):
    body = {"text": "A ship", "strategy": strategy, "max_new_tokens": 5, **STRATEGIES[strategy]}
    body["cache"] = False
    whole = client.post("/generate", json=body).json()
    with client.stream("POST", "/generate/stream", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response)
    assert events[-1]["generated_text"] == whole["generated_text"]


def test_mixed_strategies_at_once_give_what_each_gives_alone(client):
    bodies = [
        {"text": "Night", "strategy": name, "max_new_tokens": 8, "cache": False, **parameters}
        for name, parameters in STRATEGIES.items()
    ]
    alone = [client.post("/generate", json=body).json()["generated_text"] for body in bodies]
    together: dict[int, str] = {}

    def ask(index: int) -> None:
        answer = client.post("/generate", json=bodies[index]).json()
        together[index] = answer["generated_text"]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(len(bodies))] == alone


def test_probes_and_metrics_answer(client):
    assert client.get("/readyz").status_code == 200
    assert client.get("/health").json()["model"]["name"] == "tiny-llama"
    assert "model_info{" in client.get("/metrics").text


def test_body_longer_than_the_limit_is_refused(client):
    response = client.post("/generate", json={"text": "x" * 5_000_000})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_client_that_leaves_a_stream_frees_its_sequences(client):
    cancelled = metric(client, "cancellations_total")
    body = {"text": "Light", "strategy": "sample", "max_new_tokens": 60_000}
    with client.stream("POST", "/generate/stream", json=body) as response:
        next(response.iter_lines())
    wait_for_metric(client, "running_sequences", 0)
    wait_for_metric(client, "cancellations_total", cancelled + 1)
    wait_for_metric(client, "kv_cache_usage_ratio", 0)


def test_client_that_leaves_before_the_answer_frees_its_sequences(client, shared_url):
    cancelled = metric(client, "cancellations_total")
    body = json.dumps({"text": "Light", "strategy": "beam", "max_new_tokens": 60_000})
    url = httpx.URL(shared_url)
    head = "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        wait_for_metric(client, "running_requests", 1)
    wait_for_metric(client, "running_sequences", 0)
    wait_for_metric(client, "cancellations_total", cancelled + 1)


def test_taken_port_is_one_clean_line(run, tiny_model_folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = serve_command("--model", str(tiny_model_folder), "--port", port)
        server = run(command)
        assert server.wait() == 1
    [line] = server.lines
    assert f"port {port}" in line
    assert "--port" in line


def test_folder_that_is_no_model_is_one_clean_line(run, tmp_path):
    server = run(serve_command("--model", str(tmp_path), "--port", "0"))
    assert server.wait() == 1
    assert "Traceback" not in server.output
    assert "config.json" in server.output


def test_misspelt_setting_ends_with_usage(run):
    server = run(serve_command(), BEAMLINE_MAX_ROW="3")
    assert server.wait() == 2
    assert "BEAMLINE_MAX_ROWS" in server.output


def test_model_that_breaks_while_loading_ends_with_failure(run, tiny_model_folder, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in tiny_model_folder.iterdir():
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            content = content[: len(content) // 2]
        (folder / file.name).write_bytes(content)
    server = run(serve_command("--model", str(folder), "--port", "0"))
    assert server.wait() == 1
    assert "Traceback" not in server.output


def test_flag_wins_over_the_environment(run, tiny_model_folder):
    command = serve_command("--model", str(tiny_model_folder), "--port", "0", "--max-rows", "3")
    with run(command, BEAMLINE_MAX_ROWS="5").client() as client:
        assert client.get("/health").json()["limits"]["max_rows"] == 3


def test_uvicorn_factory_serves_from_the_environment(run, tiny_model_folder):
    command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--port", "0"]
    server = run(command, BEAMLINE_MODEL=str(tiny_model_folder), BEAMLINE_DEVICE="cpu")
    url = server.wait_for_line(r"Uvicorn running on (http://\S+)")[1]
    with httpx.Client(base_url=url, timeout=60.0) as client:
        assert client.get("/livez").status_code == 200
        pause = threading.Event()
        while client.get("/readyz").status_code != 200:
            pause.wait(0.05)
        answer = client.post("/generate", json={"text": "Hi", "strategy": "greedy"})
        assert answer.status_code == 200


def serve_command(*options: str) -> list[str]:
    return [sys.executable, "-c", "from app.cli import main; main()", "serve", *options]
