"""A package of strategies with faults, as an author of plugins might install it: real trouble.

`fails` raises in the middle of a batch, `dawdles` takes its time for each row of a step, and
`hangs` keeps the engine in a step for as long as a file is there.
"""

from pathlib import Path

NAMES = ("fails", "dawdles", "hangs")
SOURCE = '''
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge
from decoding.ask import MostLikely
from decoding.independent import IndependentDecoder
from decoding.params import Processing

OBSTACLE = Path({obstacle!r})
PAUSE = threading.Event()  # never set


class Faulty(IndependentDecoder):
    def __init__(self, task, fault):
        super().__init__(ask=MostLikely(Processing()), task=task)
        self._fault = fault

    def advance(self, rows, found):
        self._fault()
        return super().advance(rows, found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fails:
    """Raises."""

    name: ClassVar[str] = "fails"
    is_deterministic: ClassVar[bool] = True
    num_rows: ClassVar[int] = 1
    num_results: ClassVar[int] = 1

    def start(self, task):
        return Faulty(task, self.fault)

    def fault(self):
        raise RuntimeError("a fault of the plugin's author")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dawdles(Fails):
    """Is slow."""

    seconds: Annotated[float, Ge(0.0)] = 0.02

    name: ClassVar[str] = "dawdles"

    def fault(self):
        PAUSE.wait(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangs(Fails):
    """Waits for what does not come."""

    name: ClassVar[str] = "hangs"

    def fault(self):
        while OBSTACLE.exists():
            PAUSE.wait(0.05)
'''


def install(folder: Path, *, obstacle: Path) -> None:
    """Install it into `folder`, which must be on the path of the process."""
    (folder / "faulty_strategies.py").write_text(SOURCE.format(obstacle=str(obstacle)))
    info = folder / "faulty_strategies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-strategies\nVersion: 1.0\n")
    lines = [f"{name} = faulty_strategies:{name.capitalize()}" for name in NAMES]
    (info / "entry_points.txt").write_text("\n".join(["[beamline.strategies]", *lines, ""]))
