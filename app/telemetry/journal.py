"""Writes a log line for each request, and one for each generation that outlives its request.

The lines hold names, numbers and ids. Prompts and answers are in them only for who has asked for
that, and then cut. As JSON (`app/process/logs.py`) every figure is a field of its own.
"""

import logging
from collections.abc import Iterable, Sequence

from app.telemetry.record import GenerationRecord, RequestRecord

QUIET_ENDPOINTS = frozenset({"/health", "/livez", "/readyz", "/startupz", "/metrics"})
MAX_SHOWN_CHARACTERS = 500

logger = logging.getLogger("app.access")

Field = str | int | float | None


class Journal:
    """Observes requests. Holds no state of one."""

    def __init__(self, *, has_texts: bool) -> None:
        self._has_texts = has_texts

    def request_began(self, record: RequestRecord) -> None:
        """Nothing yet: a request has one line."""

    def generation_ended(self, record: RequestRecord, generation: GenerationRecord) -> None:
        """Tell of a job's generation, whose request has its line already."""
        if record.endpoint is not None:
            seconds = generation.ended_at - generation.received_at
            begin = f"generation of {record.method} {record.endpoint} {seconds * 1000:.1f}ms"
            self._write(begin, {}, self._fields_of([generation]), record.request_id)

    def request_ended(self, record: RequestRecord) -> None:
        """Tell of the request and of what it generated."""
        if record.endpoint in QUIET_ENDPOINTS or record.ended_at is None:
            return
        duration_ms = _milliseconds(record.ended_at - record.received_at)
        begin = f"{record.method} {record.endpoint} {record.status} {duration_ms:.1f}ms"
        shown: dict[str, Field] = {
            "method": record.method,
            "route": record.endpoint,
            "status": record.status,
            "duration_ms": duration_ms,
        }
        fields: dict[str, Field] = {"key": record.key_name, "error": record.error}
        fields |= self._fields_of(record.generations)
        self._write(begin, shown, fields, record.request_id)

    def close(self) -> None:
        """Nothing: lines are written at once."""

    def _fields_of(self, generations: Sequence[GenerationRecord]) -> dict[str, Field]:
        """Of several generations sums, and the longest times."""
        if not generations:
            return {}
        first = generations[0]
        fields: dict[str, Field] = {
            "strategy": first.strategy,
            "cache": ",".join(sorted({each.cache for each in generations})),
            "prompt_tokens": sum(each.num_prompt_tokens for each in generations),
            "cached_tokens": sum(each.num_cached_tokens for each in generations),
            "generated_tokens": sum(each.num_generated_tokens for each in generations),
            "finish_reason": _names(each.finish_reasons for each in generations),
            "queue_ms": _longest([each.queue_seconds for each in generations]),
            "prefill_ms": _longest([each.prefill_seconds for each in generations]),
            "decode_ms": _longest([each.decode_seconds for each in generations]),
            "priority": first.priority or None,
            "generations": len(generations) if len(generations) > 1 else None,
        }
        failures = _names([[each.error] for each in generations if each.error])
        fields |= {"error": failures} if failures else {}
        if self._has_texts:
            fields |= {"prompt": _cut(first.prompt), "text": _cut(first.text)}
        return fields

    def _write(
        self, begin: str, shown: dict[str, Field], fields: dict[str, Field], request_id: str
    ) -> None:
        """`shown` fields are in the beginning of the line already."""
        fields = {name: value for name, value in fields.items() if value is not None}
        rest = "".join(f" {name}={_written(value)}" for name, value in fields.items())
        everything = {"request_id": request_id} | shown | fields
        logger.info("%s%s id=%s", begin, rest, request_id, extra={"fields": everything})


def _names(groups: Iterable[Iterable[str]]) -> str | None:
    names = dict.fromkeys(name for group in groups for name in group)
    return ",".join(names) or None


def _longest(seconds: Sequence[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return _milliseconds(max(known)) if known else None


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 3] + "..."


def _written(value: Field) -> str:
    return repr(value) if isinstance(value, str) and not value.isidentifier() else str(value)
