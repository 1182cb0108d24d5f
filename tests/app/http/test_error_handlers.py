"""Every failed request is answered in one shape, from a wrong path to a crash."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from app.http.error_handlers import install_error_handlers

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "json_invalid"),
        (b"\xff\xfe{", JSON, 400, "malformed_body"),
        (b"[" * 100_00, JSON, 400, "malformed_body"),
        (b'{"text":' + b"9" * 5000 + b"}", JSON, 400, "malformed_body"),
        (b"[1]", JSON, 400, "not_an_object"),
        (b"null", JSON, 400, "not_an_object"),
        (b"", JSON, 422, "missing"),
        (b'{"text": "a"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"text": "a"}', {}, 415, "unsupported_media_type"),
        (b" " * 70_000, JSON, 413, "body_too_large"),
        (b'{"text": "\\ud800"}', JSON, 422, "string_unicode"),
        (b'{"\\ud800": "\\ud800"}', JSON, 422, "string_unicode"),
        (b'{"text": "a", "\\ud800": NaN}', JSON, 422, "string_unicode"),
        (b'{"text": "a", "temperature": NaN}', JSON, 422, "finite_number"),
        (b'{"text": "a", "temperature": 1e999}', JSON, 422, "finite_number"),
        (b'{"text": "a", "strategy": "\\ud800"}', JSON, 422, "unknown_strategy"),
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/generate/stream", "/generate_async"])
async def test_hostile_bodies_get_an_orderly_answer(service, path, content, headers, status, code):
    response = await service.client.post(path, content=content, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["error"]["code"] == code
    assert len(response.content) < 4000


async def test_wrong_paths_and_methods_have_the_same_shape(service):
    missing = await service.client.get("/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = await service.client.get("/generate")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_many_mistakes_are_reported_up_to_ten(service):
    body = {"text": "a"} | {f"field{number}": 1 for number in range(50)}
    response = await service.post(**body)
    assert response.status_code == 422
    assert len(response.json()["errors"]) == 10


async def test_a_crash_is_an_orderly_500():
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def crash() -> None:
        raise RuntimeError("secret")

    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text


async def test_requests_that_are_wrong_leave_nothing_running(service):
    await asyncio.gather(*(service.post(text="a", temperature=-1) for _ in range(20)))
    assert service.is_idle()
