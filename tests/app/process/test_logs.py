"""A log line is one line, and machine-readable where asked for."""

import json
import logging

import pytest

from app.process.logs import JsonFormatter, TextFormatter, configure_logging


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("app.x", logging.INFO, "f.py", 1, message, args, None)


def test_text_line_has_level_logger_and_message():
    line = TextFormatter().format(record("%d requests", 3))
    assert line.endswith("Z INFO app.x: 3 requests")


def test_line_breaks_in_a_message_cannot_forge_a_line():
    line = TextFormatter().format(record("id=%s", "x\r\n2026 INFO app: forged\x1b[2J"))
    assert len(line.splitlines()) == 1
    assert "\\x0d\\x0a" in line
    assert "\x1b" not in line


def test_json_line_is_an_object_on_one_line():
    line = JsonFormatter().format(record("a\nb"))
    assert "\n" not in line
    assert json.loads(line)["message"] == "a\nb"
    assert json.loads(line)["level"] == "info"


def test_json_line_carries_the_traceback():
    try:
        raise ValueError("broken")  # noqa: TRY301
    except ValueError as error:
        failed = record("oops")
        failed.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: broken" in json.loads(JsonFormatter().format(failed))["traceback"]


@pytest.mark.usefixtures("restored_logging")
def test_lines_go_to_stderr_at_the_level_asked_for(capsys):
    configure_logging(level="warning", log_format="text")
    logging.getLogger("app.y").info("quiet")
    logging.getLogger("app.y").warning("loud")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "loud" in captured.err
    assert "quiet" not in captured.err
