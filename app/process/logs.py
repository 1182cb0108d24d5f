"""Logging of the `beamline` command: one line an event, to stderr, as text or as JSON.

Only the command sets logging up; a host that imports `create_app` keeps its own. Lines carry
times, levels, names, numbers and ids, never prompts or answers. Nothing in a line can start a
new one: control characters are escaped.
"""

import json
import logging
import sys
import time

from app.settings import LogFormat, LogLevel

QUIET_LOGGERS = ("uvicorn.error", "uvicorn.access", "httpx", "huggingface_hub")


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO app.lifespan: message`, a traceback below where there is one."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line itself, made harmless."""
        return _escape_controls(super().formatMessage(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message and, after an error, traceback."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object; JSON escapes what could break the line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(*, level: LogLevel, log_format: LogFormat) -> None:
    """Send every logger of the process to stderr; libraries speak only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _escape_controls(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
