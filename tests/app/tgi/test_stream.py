"""Event streams in TGI's shape: what they join to, when they come, how they fail."""

import json

import pytest

from tests.app.driven_service import stop_within

PROMPT = "what is the best way"
PATHS = ["/generate_stream", "/generate", "/"]


def events_of(text):
    """The data of each event; nothing else may be in a stream."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data:{") for block in blocks)
    return [json.loads(block.removeprefix("data:")) for block in blocks]


async def stream(service, path="/generate_stream", **parameters):
    flag = {} if path == "/generate_stream" else {"stream": True}
    response = await service.post(path, inputs=PROMPT, parameters=parameters, **flag)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return events_of(response.text)


async def whole(service, **parameters):
    body = {"inputs": PROMPT, "parameters": {"details": True, **parameters}}
    return (await service.post("/generate", **body)).json()


def joined(events):
    return "".join(each["token"]["text"] for each in events if not each["token"]["special"])


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_tells_the_tokens_of_the_whole_answer(service, path, cache):
    asked = {"max_new_tokens": 9, "top_n_tokens": 2, "return_full_text": False}
    answer = await whole(service, **asked)
    events = await stream(service, path, cache=cache, details=True, **asked)
    assert [event["index"] for event in events] == list(range(1, 10))
    for event, token, likely in zip(
        events, answer["details"]["tokens"], answer["details"]["top_tokens"], strict=True
    ):
        assert event["token"] == pytest.approx(token, abs=1e-4)
        assert [each["id"] for each in event["top_tokens"]] == [each["id"] for each in likely]
    assert joined(events) == answer["generated_text"]
    *others, last = events
    assert all(each["generated_text"] is None and each["details"] is None for each in others)
    assert last["generated_text"] == answer["generated_text"]
    num_prompt = (await service.post("/tokenize", text=PROMPT)).json()["count"]
    assert last["details"] == {
        "finish_reason": "length",
        "generated_tokens": 9,
        "seed": None,
        "input_length": num_prompt,
    }


async def test_without_details_the_last_event_tells_the_text_only(service):
    *_, last = await stream(service, max_new_tokens=3)
    assert last["details"] is None
    assert last["generated_text"]
    assert "top_tokens" not in last


@pytest.mark.parametrize(("path", "has_prompt"), [("/", True), ("/generate_stream", False)])
async def test_the_last_event_tells_the_prompt_where_the_path_does(service, path, has_prompt):
    events = await stream(service, path, max_new_tokens=3)
    assert events[-1]["generated_text"] == (PROMPT if has_prompt else "") + joined(events)


async def test_tokens_are_sent_as_they_come_and_the_last_with_the_text(service):
    service.hold(after=2)
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 4}}
    async with service.call("/generate_stream", body) as call:
        await service.held()
        await service.until(lambda: call.text.count("data:") == 2)
        assert "data:" in call.text
        assert all(event["generated_text"] is None for event in events_of(call.text))
        service.release()
        await service.until(lambda: call.text.count("data:") == 4)
        assert events_of(call.text)[-1]["generated_text"]


async def test_a_stop_string_is_the_end_of_what_is_sent(service):
    text = (await whole(service, max_new_tokens=30))["generated_text"]
    stop = stop_within(text)
    events = await stream(service, max_new_tokens=30, stop=[stop], details=True)
    assert joined(events) == events[-1]["generated_text"] == text.split(stop)[0] + stop
    assert events[-1]["details"]["finish_reason"] == "stop_sequence"
    cut = await stream(
        service, max_new_tokens=30, stop=[stop], include_stop_str_in_output=False, cache=False
    )
    assert joined(cut) == cut[-1]["generated_text"] == text.split(stop)[0]


@pytest.mark.parametrize(
    "parameters",
    [
        {"strategy": "beam", "num_beams": 3},
        {"strategy": "contrastive"},
        {"best_of": 3, "do_sample": True, "seed": 1},
        {"do_sample": True, "seed": 1, "prompt_lookup_num_tokens": 4},
        {"strategy": "diverse_beam"},
    ],
    ids=str,
)
async def test_every_way_of_choosing_streams_the_text_it_ends_with(service, parameters):
    events = await stream(service, max_new_tokens=12, cache=False, **parameters)
    assert len(events) == 12
    assert joined(events) == events[-1]["generated_text"]
    told = {**parameters, "details": "best_of" not in parameters}
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 12, "cache": False, **told}}
    answer = (await service.post("/generate", **body)).json()
    assert answer["generated_text"] == events[-1]["generated_text"]


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"decoder_input_details": True}, "decoder_input_details"),
        ({"strategy": "beam", "num_return_sequences": 2, "details": True}, "num_return_sequences"),
        ({"best_of": 2, "do_sample": True, "details": True}, "num_return_sequences"),
    ],
    ids=str,
)
async def test_what_a_stream_cannot_tell_is_refused_before_it_begins(service, parameters, names):
    response = await service.post("/generate_stream", inputs=PROMPT, parameters=parameters)
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"Input validation error: `{names}`")


async def test_a_path_that_always_streams_refuses_not_to(service):
    response = await service.post("/generate_stream", inputs=PROMPT, stream=False)
    assert response.status_code == 422
    assert "`stream`" in response.json()["error"]


async def test_a_failure_in_the_middle_is_the_last_event(service):
    service.hold(after=2)
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 20}}
    async with service.call("/generate_stream", body) as call:
        await service.held()
        service.runner.failure = RuntimeError("the device is gone")
        service.release()
        await call.task
        service.runner.failure = None
    *tokens, failure = events_of(call.text)
    assert all("token" in event for event in tokens)
    assert failure == {
        "error": "The model failed while it ran this request.",
        "error_type": "generation",
    }
    await service.until(service.is_idle)


async def test_a_client_that_hangs_up_frees_its_text(service):
    service.hold(after=2)
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 100}}
    async with service.call("/generate_stream", body) as call:
        await service.held()
        call.hang_up()
        await call.task
        service.release()
    await service.until(service.is_idle)
    assert len(events_of(call.text)) < 10
