"""What a variant of a model gains and loses against the original: `optimization-report.json`.

Written beside every variant that `beamline optimize` makes; the command shows it as a table and
draws several as a plot. Values and their JSON only.
"""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from optimize.errors import CorruptModel
from optimize.fingerprint import write_json
from optimize.model_folder import read_json
from optimize.quality import Quality

REPORT_FILE = "optimization-report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What running a model takes."""

    disk_bytes: int  # graph and weights
    memory_bytes: int  # by which a fresh process grew when it was opened and had run
    one_stream: float  # new tokens a second
    batch_8: float  # new tokens a second of eight streams together
    prefill: float  # prompt tokens a second


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationReport:
    """A variant beside its original, both measured in one run on one machine."""

    technique: str
    model: str
    revision: str  # of the original's weights
    original: Costs
    variant: Costs
    quality: Quality
    text: str  # SHA-256 of the text that quality was measured on
    num_threads: int
    processor: str
    runtime: str  # name and version

    def write(self, folder: Path) -> None:
        """Store the report in the variant's folder."""
        write_json(folder / REPORT_FILE, dict(asdict(self)))


def read_report(folder: Path) -> OptimizationReport:
    """The report in `folder`.

    Raises:
        CorruptModel: there is none, or it is damaged.
    """
    path = folder / REPORT_FILE
    if not path.is_file():
        raise CorruptModel(f"{folder} has no {REPORT_FILE}. Make it with `beamline optimize`.")
    content: dict[str, Any] = dict(read_json(path))
    try:
        content["original"] = Costs(**content["original"])
        content["variant"] = Costs(**content["variant"])
        content["quality"] = Quality(**content["quality"])
        return OptimizationReport(**content)
    except (KeyError, TypeError) as error:
        raise CorruptModel(f"{path} is damaged ({error}). Make it again.") from error


def describe_processor() -> str:
    """The processor's name, and how many cores of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {psutil.cpu_count(logical=False)} cores"
