"""The file of answers: one JSON object a line, in the order of the input, only ever appended to.

Whatever ends a run, every line but the last is whole; a torn last line is cut off when the run is
resumed, and the whole ones are compared with the input, so that no run goes on from another's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.batch.lines import Line


class AnswersUnusable(Exception):
    """A run cannot go on from this file; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a whole line of the file says of the line that it answers."""

    number: int
    digest: str
    fingerprint: str | None  # of model and runtime; None where it is an error
    end: int  # byte after it


class AnswersFile:
    """What an earlier run left in a file, checked line by line against the input."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answered = _whole_lines(path)
        self.fingerprint: str | None = None  # of the last answer that was no error
        self._end = 0

    def has_answered(self, line: Line) -> bool:
        """Whether the next whole line answers this one; called for lines in order.

        Raises:
            AnswersUnusable: it answers something else.
        """
        answered = next(self._answered, None)
        if answered is None:
            return False
        if (answered.number, answered.digest) != (line.number, line.digest):
            raise AnswersUnusable(
                f"{self._path} does not go on to line {line.number} of the input: there it answers "
                f"line {answered.number} as it was asked then. The input or the options have "
                "changed; begin another file."
            )
        self.fingerprint = answered.fingerprint or self.fingerprint
        self._end = answered.end
        return True

    def open(self) -> BinaryIO:
        """The file, ready to be written on behind the last line that `has_answered` confirmed.

        Raises:
            AnswersUnusable: it answers more lines than there are.
            OSError: it cannot be written.
        """
        if next(self._answered, None) is not None:
            raise AnswersUnusable(
                f"{self._path} answers more lines than the input has; begin another file."
            )
        file = self._path.open("r+b")
        file.truncate(self._end)
        file.seek(self._end)
        return file


def _whole_lines(path: Path) -> Iterator[Answered]:
    with path.open("rb") as file:
        for count, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return
            yield _read_answered(path, count, raw, end=file.tell())


def _read_answered(path: Path, count: int, raw: bytes, *, end: int) -> Answered:
    try:
        content = json.loads(raw)
        results = content.get("results", [content])
        fingerprints = [result["fingerprint"] for result in results if "fingerprint" in result]
        return Answered(
            number=int(content["line"]),
            digest=str(content["digest"]),
            fingerprint=fingerprints[0] if fingerprints else None,
            end=end,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AnswersUnusable(
            f"{path}: line {count} is no answer of `beamline generate`; give another file."
        ) from error
