"""Logging of the `beamline` command: one line an event, to stderr, as text or as JSON.

Only the command sets logging up; a host that imports `create_app` keeps its own. Lines carry
times, levels, names, numbers and ids; prompts and answers only in the access line of a service that
was asked to log them. Nothing in a line can start a new one: control characters are escaped. A line
that is written for a request carries its id.
"""

import json
import logging
import sys
import time
from typing import get_args

from app.setting_groups.server import LogFormat, LogLevel
from app.telemetry.record import current_request

QUIET_LOGGERS = ("uvicorn.error", "uvicorn.access", "httpx", "huggingface_hub")


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO app.lifespan: message`, a traceback below where there is one."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line itself, made harmless."""
        request = None if hasattr(record, "fields") else current_request()
        end = "" if request is None else f" id={request.request_id}"
        return _escape_controls(super().formatMessage(record) + end)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, fields and, of an error, traceback."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object; JSON escapes what could break the line."""
        request = current_request()
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request is not None:
            line["request_id"] = request.request_id
        line |= getattr(record, "fields", {})  # those of `app/telemetry/journal.py`
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(*, level: LogLevel, log_format: LogFormat) -> None:
    """Send every logger of the process to stderr; libraries speak only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_log_level(level)


def set_log_level(level: LogLevel) -> None:
    """Log what is at least as important, save that some libraries speak from warnings on."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def current_log_level() -> LogLevel:
    """The level that is set, or the one that a host's own level comes closest to."""
    level = logging.getLogger().level
    numbers = logging.getLevelNamesMapping()
    names: tuple[LogLevel, ...] = get_args(LogLevel)  # from the least important on
    return next((name for name in names if numbers[name.upper()] >= level), names[-1])


def _escape_controls(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
