"""What a real server tells of its requests: never their text, and traces when asked to."""

import json
import signal

import httpx

from tests.app.telemetry.collector import Collector

SECRET = "xyzzy plugh"


def test_logs_and_traces_of_a_server_hold_no_prompt(start):
    collector = Collector()
    options = ("--otlp-endpoint", collector.url, "--log-format", "json", "--log-level", "debug")
    server = start(*options)
    body = {"text": SECRET, "max_new_tokens": 3, "strategy": "greedy"}
    ready = json.loads(server.wait_for_line(r"^(.*ready: http\S+ serves.*)$")[1])["message"]
    url = ready.split()[1]
    with httpx.Client(base_url=url, timeout=60.0) as client:
        assert client.post("/generate", json=body, headers={"X-Request-Id": "a1"}).is_success
        assert client.post("/generate/stream", json=body).is_success
        assert client.post("/generate", json=body | {"stop": [SECRET], "seed": 1}).is_success
        assert client.post("/generate", json=body | {"temperature": SECRET}).status_code == 422
        assert client.post("/generate", json=body | {SECRET: 1}).status_code == 422
        assert client.post("/generate", content=f'{{"text": "{SECRET}').status_code in (400, 415)
        assert client.get(f"/{SECRET}").status_code == 404
        many = client.post("/generate", json=body | {"text": [SECRET, 7]})
        assert many.status_code == 422
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    spans = collector.wait_for(8)
    collector.close()
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]  # else torch's
    requests = [line for line in lines if line["logger"] == "app.access"]
    assert len(requests) == 8
    assert requests[0]["request_id"] == "a1"
    assert requests[0]["generated_tokens"] == 3
    assert {"POST /generate", "POST /generate/stream", "text_completion tiny-llama"} <= spans.keys()
    for word in SECRET.split():
        assert word not in server.output
        assert word.encode() not in collector.raw
