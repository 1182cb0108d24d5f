"""Measures a variant beside its original and gives it a folder of the user's.

Shared by `onnx_variant` and `torch_variant`, which make the variants.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optimize.errors import ModelRefused
from optimize.opening import Setup, open_steps
from optimize.optimization_report import OptimizationReport, describe_processor
from optimize.quality import measure_quality
from optimize.report import Progress, stage
from optimize.speed import measure_costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model in another form, beside the form it was made from."""

    technique: str
    model: str
    revision: str  # of the original's weights
    original: Path
    folder: Path
    setup: Setup
    runtime: str  # name and version


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What quality is measured on."""

    content: str
    token_ids: Sequence[int]

    @property
    def digest(self) -> str:
        """Which text it was."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def require_new(output: Path) -> None:
    """Check that nothing is there yet.

    Raises:
        ModelRefused: something is.
    """
    if output.exists():
        raise ModelRefused(f"{output} exists already. Name a new folder.")


def measure_variant(variant: Variant, text: Text, progress: Progress) -> OptimizationReport:
    """The report on a variant: both forms run on the text, and are timed one after the other.

    Raises:
        InvalidCalibration: the text is too short.
    """
    quality = measure_quality(
        open_steps(variant.original, variant.setup),
        open_steps(variant.folder, variant.setup),
        text.token_ids,
        stage(progress, "measuring quality"),
    )
    original, changed = (
        measure_costs(folder, variant.setup, report=stage(progress, f"timing the {name}"))
        for name, folder in (("original", variant.original), ("variant", variant.folder))
    )
    return OptimizationReport(
        technique=variant.technique,
        model=variant.model,
        revision=variant.revision,
        original=original,
        variant=changed,
        quality=quality,
        text=text.digest,
        num_threads=variant.setup.num_threads,
        processor=describe_processor(),
        runtime=variant.runtime,
    )


def publish(target: Path, fill: Callable[[Path], None]) -> None:
    """Have a folder filled, and give it its name when it is whole. Nothing is left on a failure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".optimizing-") as scratch:
        made = Path(scratch) / target.name
        made.mkdir()
        fill(made)
        made.rename(target)


def copy_into(source: Path, target: Path) -> None:
    """Copy the files of a folder into another one that exists."""
    shutil.copytree(source, target, dirs_exist_ok=True)
