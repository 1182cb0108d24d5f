"""Every error has a fitting status and tells nothing of the server's insides."""

import json

import pytest
from starlette.exceptions import HTTPException

from app import error_replies
from app.error_replies import describe
from app.errors import (
    AdminClosed,
    AppError,
    ClientDisconnected,
    InvalidRequest,
    JobNotFound,
    JobsFull,
    ListFailed,
    MissingKey,
    Overloaded,
    RateLimited,
    ScopeMissing,
    ServiceUnavailable,
    StateConflict,
    TextQueueFull,
    UnknownKey,
)
from decoding.errors import InvalidParameter
from engine.errors import (
    ConstraintNotMet,
    DecodingFailed,
    EngineClosed,
    EngineError,
    QueueFull,
    RequestTooLarge,
    StepFailed,
)


@pytest.mark.parametrize(
    ("error", "status", "code", "header"),
    [
        (InvalidRequest("no", param="text"), 422, "invalid_value", None),
        (InvalidRequest("no", code="special"), 422, "special", None),
        (InvalidParameter("top_k", "no"), 422, "invalid_value", None),
        (RequestTooLarge("no"), 422, "request_too_large", None),
        (JobNotFound("no"), 404, "job_not_found", None),
        (ClientDisconnected("no"), 499, "client_disconnected", None),
        (MissingKey("no"), 401, "missing_api_key", "WWW-Authenticate"),
        (UnknownKey("no"), 401, "invalid_api_key", "WWW-Authenticate"),
        (ScopeMissing("no"), 403, "insufficient_scope", "WWW-Authenticate"),
        (AdminClosed("no"), 403, "admin_closed", None),
        (StateConflict("no"), 409, "state_conflict", None),
        (RateLimited("no", 7), 429, "rate_limit_exceeded", "Retry-After"),
        (Overloaded("no", 7), 503, "queue_full", "Retry-After"),
        (TextQueueFull("no"), 503, "text_queue_full", "Retry-After"),
        (QueueFull("no"), 503, "queue_full", "Retry-After"),
        (JobsFull("no"), 503, "jobs_full", "Retry-After"),
        (ServiceUnavailable("no", 7), 503, "service_unavailable", "Retry-After"),
        (EngineClosed("no"), 503, "engine_closed", "Retry-After"),
        (StepFailed("no"), 500, "step_failed", "x-should-retry"),
        (DecodingFailed("no"), 500, "decoding_failed", "x-should-retry"),
        (ConstraintNotMet("no"), 422, "constraint_not_met", None),
        (ConstraintNotMet("no", field="words"), 422, "constraint_not_met", None),
        (EngineError("no"), 500, "engine_error", "x-should-retry"),
        (RuntimeError("no"), 500, "internal_error", None),
        (HTTPException(418, "tea"), 418, "http_418", None),
        (HTTPException(405, "no", {"Allow": "GET"}), 405, "method_not_allowed", "Allow"),
    ],
)
def test_the_table(error, status, code, header):
    reply = describe(error)
    assert (reply.status, reply.code) == (status, code)
    assert list(reply.headers) == ([header] if header else [])
    assert set(reply.as_json()["error"]) == {"type", "code", "message", "param"}


def test_every_error_of_the_app_and_the_engine_has_a_row_of_its_own_or_its_parents():
    for base in (AppError, EngineError):
        for kind in base.__subclasses__():
            if kind is not ListFailed and kind.__module__.startswith(("app", "engine")):
                assert any(parent in error_replies._TABLE for parent in kind.__mro__[:-2]), kind


def test_the_field_is_named():
    assert describe(InvalidRequest("no", param="text")).problems[0].param == "text"
    assert describe(InvalidParameter("top_k", "no")).problems[0].param == "top_k"


def test_how_long_to_wait_is_said():
    assert describe(ServiceUnavailable("no", 7)).headers["Retry-After"] == "7"


def test_what_went_wrong_inside_is_not_told():
    for error in (StepFailed("/secret/path"), RuntimeError("/secret/path")):
        assert "secret" not in json.dumps(describe(error).as_json())


def test_long_messages_are_cut():
    reply = describe(InvalidRequest("x" * 100_000, param="y" * 100_000))
    assert len(reply.as_response().body) < 2000


def test_a_list_reports_its_first_texts_and_the_status_of_the_first():
    reply = describe(ListFailed([QueueFull("no"), *[InvalidRequest("bad")] * 50]))
    assert reply.status == 503
    assert "Retry-After" in reply.headers
    body = reply.as_json()
    assert body["error"]["message"].startswith("Text 0: ")
    assert len(body["errors"]) == 10
