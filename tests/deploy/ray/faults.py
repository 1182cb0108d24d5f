"""Strategies that do on purpose what a replica must survive; `conftest.py` installs them.

They are a plugin like any other, found by its entry points, so a real replica on real Ray runs
them: `gated` goes on until a file is there, `fatal` ends the engine's thread, `stuck` never comes
back from a step.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from typing_extensions import Doc

from decoding.ask import MostLikely
from decoding.base import (
    Candidate,
    Continuation,
    Decision,
    DecodingRow,
    Emission,
    FinishReason,
    Hypothesis,
    Task,
)
from decoding.params import Processing

PACE_SECONDS = 0.02  # so that a long wait is not many tokens


class Fault:
    """What the three have in common."""

    __slots__ = ()
    is_deterministic: ClassVar[bool] = True
    num_rows: ClassVar[int] = 1
    num_results: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated(Fault):
    """Take the most likely token until a file is there."""

    file: Annotated[str, Doc("The file that ends it.")] = ""

    name: ClassVar[str] = "gated"

    def start(self, _task: Task) -> "GatedDecoder":
        return GatedDecoder(Path(self.file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fatal(Fault):
    """End the engine's thread."""

    name: ClassVar[str] = "fatal"

    def start(self, _task: Task) -> "FatalDecoder":
        return FatalDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck(Fault):
    """Never come back from a step."""

    name: ClassVar[str] = "stuck"

    def start(self, _task: Task) -> "StuckDecoder":
        return StuckDecoder()


class GatedDecoder:
    ask = MostLikely(Processing())

    def __init__(self, file: Path) -> None:
        self._file = file

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        time.sleep(PACE_SECONDS)
        (row,), chosen = rows, found[0][0]
        token_ids = (*row.generated_ids, chosen.token_id)
        logprobs = (*row.logprobs, chosen.logprob)
        emission = Emission(index=0, token_ids=token_ids[-1:], logprobs=logprobs[-1:])
        if self._file.exists():
            result = Hypothesis(
                token_ids=token_ids, logprobs=logprobs, finish_reason=FinishReason.STOP
            )
            return Decision(emissions=(emission,), results=(result,))
        live = Continuation(parent=0, token_id=chosen.token_id, logprob=chosen.logprob, index=0)
        return Decision(live=(live,), emissions=(emission,))


class FatalDecoder:
    ask = MostLikely(Processing())

    def advance(
        self, _rows: Sequence[DecodingRow], _found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        raise SystemExit("on purpose")


class StuckDecoder:
    ask = MostLikely(Processing())

    def advance(
        self, _rows: Sequence[DecodingRow], _found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        threading.Event().wait()
        raise AssertionError("nobody sets it")
