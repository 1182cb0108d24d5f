"""What the serving process tells the others while the model is loaded, and what they answer.

Pickled over a pair of sockets that only the two have. Later orders are `engine.shard_runner`'s.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.config import EngineConfig
from engine.self_test import SelfTest
from engine.shard_group import ShardPlace

FAREWELL = b""  # after the last step: all leave the group


class Stage(StrEnum):
    """How far a process is."""

    MEETING = "meeting"  # it is about to join the group
    LOADED = "loaded"
    OPEN = "open"  # it takes part in steps
    LEAVING = "leaving"  # it has been told farewell


@dataclass(frozen=True, slots=True)
class Failure:
    """The last words of a process."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOrder:
    """Join the group and load a shard."""

    place: ShardPlace
    folder: Path
    dtype: str
    trust_remote_code: bool
    num_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """Check the shard with the others, and lay out its cache."""

    config: EngineConfig
    context_length: int
    expected: SelfTest | None  # of the whole model
