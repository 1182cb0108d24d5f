"""A line of an input file as requests: JSON as for `POST /generate`, or a plain prompt.

What is wrong with a line stays its own failure. Draws get a seed made of the run's seed and the
line's number, so that a run can be repeated and resumed. Knows no engine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fastapi.exceptions import RequestValidationError

from app.bodies.body_parser import BodyParser, read_json, with_defaults
from app.errors import AppError, InvalidRequest
from app.text.request import TextRequest

DIGEST_CHARACTERS = 16
SEED_BITS = 53  # as seeds that the service draws: JSON readers that know only doubles keep them

Failure = AppError | RequestValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one line asks for."""

    number: int  # from 1, in the file
    digest: str  # of all that decides its answer but the model
    id: str | int | None = None  # the line's own, handed through
    requests: Sequence[TextRequest] = ()  # none where it failed
    is_list: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReader:
    """How the lines of one run are read."""

    parser: BodyParser
    defaults: Mapping[str, object]  # fields for lines that leave them open
    seed: int
    is_text: bool  # lines are prompts, not JSON

    def read(self, number: int, raw: bytes) -> Line | None:
        """The line; None if there is nothing on it."""
        if not raw.strip():
            return None
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            value = {"text": text} if self.is_text else read_json(text)
        except UnicodeDecodeError as error:
            failure = InvalidRequest(f"The line is not UTF-8: {error}.", code="not_utf8")
            return Line(number=number, digest=self._digest(raw.hex()), failure=failure)
        except RequestValidationError as error:
            return Line(number=number, digest=self._digest(text), failure=error)
        return self._read_value(number, value)

    def _read_value(self, number: int, value: object) -> Line:
        line_id = None
        if isinstance(value, dict):
            line_id = value.pop("id", None)
            value = with_defaults(value, self.defaults)
        line = Line(number=number, digest=self._digest([line_id, value]))
        try:
            line = replace(line, id=_checked_id(line_id))
            body = self.parser.parse(value)
        except (InvalidRequest, RequestValidationError) as error:
            return replace(line, failure=error)
        requests = [
            self._seeded(request, number, i) for i, request in enumerate(body.as_requests())
        ]
        return replace(line, requests=requests, is_list=body.is_list)

    def _seeded(self, request: TextRequest, number: int, index: int) -> TextRequest:
        if request.seed is not None or request.strategy.is_deterministic:
            return request
        digest = hashlib.sha256(f"{self.seed} {number} {index}".encode()).digest()
        return replace(request, seed=int.from_bytes(digest[:8]) >> (64 - SEED_BITS))

    def _digest(self, asked: object) -> str:
        parts = json.dumps([self.seed, asked], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _checked_id(value: object) -> str | int | None:
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return value
    raise InvalidRequest("Input should be a string or an integer", param="id")
