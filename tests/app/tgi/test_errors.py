"""Failures in TGI's shape: whose they are, their statuses and kinds, and that ours stay ours."""

import pytest

from app.error_replies import MAX_PROBLEMS, Problem
from app.state import ServiceStatus
from app.tgi.errors import TgiErrorReply

PROMPT = "what is the best way"


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
async def test_a_wrong_parameter_is_a_validation_error(service, path):
    response = await service.post(path, inputs=PROMPT, parameters={"top_p": 2.0, "colour": 1})
    assert response.status_code == 422
    body = response.json()
    assert set(body) == {"error", "error_type"}
    assert body["error_type"] == "validation"
    assert body["error"].startswith("Input validation error: `top_p`: ")
    assert "`colour`" in body["error"]


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"max_new_tokens": 1000}, "max_new_tokens"),
        ({"best_of": 200, "do_sample": True}, "best_of"),
        ({"grammar": {"type": "regex", "value": "("}}, "grammar"),
        ({"logit_bias": {"100000": 1.0}}, "logit_bias"),
    ],
    ids=str,
)
async def test_what_the_model_cannot_do_names_the_parameter(service, path, parameters, names):
    response = await service.post(path, inputs=PROMPT, parameters=parameters)
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"Input validation error: `{names}`: ")


async def test_a_prompt_that_is_too_long_is_named_as_tgi_calls_it(service):
    response = await service.post("/generate", inputs="the fox " * 300)
    assert response.status_code == 422
    assert response.json()["error"].startswith("Input validation error: `inputs`: ")


@pytest.mark.parametrize("path", ["/", "/generate_stream"])
async def test_a_body_that_is_none_is_told_in_tgis_shape_on_its_paths(service, path):
    response = await service.client.post(
        path, content=b"{", headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["error_type"] == "validation"


async def test_our_own_bodies_keep_our_shape(service):
    for body in ({"text": PROMPT, "colour": 1}, {"text": PROMPT, "max_new_tokens": 1000}, {}):
        response = await service.post("/generate", **body)
        assert response.status_code == 422
        assert set(response.json()["error"]) == {"type", "code", "message", "param"}


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
async def test_a_service_that_is_not_ready_says_when_to_come_back(service, path):
    service.parts.status = ServiceStatus.DRAINING
    try:
        response = await service.post(path, inputs=PROMPT)
    finally:
        service.parts.status = ServiceStatus.READY
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    if path != "/generate":  # refused before anybody looks at the body
        assert response.json()["error_type"] == "unavailable"


async def test_a_model_that_fails_is_a_generation_error(service):
    service.runner.failure = RuntimeError("the device is gone")
    response = await service.post("/generate", inputs=PROMPT, parameters={"cache": False})
    service.runner.failure = None
    assert response.status_code == 424
    assert response.json()["error_type"] == "generation"


class TestFullQueue:
    @pytest.fixture
    def max_waiting_requests(self):
        return 1

    async def test_it_is_told_as_overloaded(self, service):
        service.hold()
        body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 2, "cache": False}}
        async with service.call("/generate", body):
            await service.held()
            async with service.call("/generate", body) as waiting:
                await service.until(
                    lambda: (
                        service.worker.stats.num_waiting_requests == 1
                        or service.generator.num_in_flight == 2
                    )
                )
                response = await service.post("/generate", **body)
                service.release()
                await waiting.task
        assert response.status_code == 429
        assert response.json()["error_type"] == "overloaded"
        assert int(response.headers["retry-after"]) > 0


def test_at_most_so_many_problems_are_told_and_none_is_long():
    problems = [
        Problem(type="t", code="c", message="m" * 10_000, param=f"parameters.p{number}")
        for number in range(50)
    ]
    told = TgiErrorReply(status=422, problems=problems).as_json()["error"]
    assert told.count("`p") == MAX_PROBLEMS
    assert len(told) < 600 * MAX_PROBLEMS


@pytest.mark.parametrize(
    ("path", "body"), [("/tokenize", {"inputs": 3}), ("/chat_tokenize", {"inputs": "a"})]
)
async def test_wrong_texts_to_tokenize_are_told_in_tgis_shape(service, path, body):
    response = await service.post(path, **body)
    assert response.status_code == 422
    assert response.json()["error_type"] == "validation"
    assert "`inputs`" in response.json()["error"]
