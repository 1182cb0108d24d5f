"""From a model's name to a graph that ONNX Runtime can serve: the light twin of `prepare`.

Called by the app's start-up for the CPU. An earlier start's export is found by its name alone, so a
second start imports neither torch nor transformers' models; the export itself is `onnx_making`'s.
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from optimize.cached_models import note_use
from optimize.check import (
    CheckedFolder,
    CheckedGguf,
    CheckedOnnx,
    CheckedProgram,
    CheckedRepository,
    check_model,
)
from optimize.conversion import gguf_revision, unusable
from optimize.errors import OnnxUnsupported
from optimize.light_tokenizer import load_light_tokenizer
from optimize.made_once import is_finished, make_once
from optimize.model_folder import find_weights, folder_revision
from optimize.onnx_calibration import CalibrationText, read_calibration
from optimize.onnx_manifest import (
    EXPORTER_VERSION,
    GRAPH_FILE,
    NATIVE_GRAPH_FILE,
    OnnxManifest,
    read_manifest,
)
from optimize.report import Progress, ignore_progress
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedOnnx:
    """A graph ready to be served on the CPU."""

    folder: Path
    manifest: OnnxManifest
    tokenizer: PreTrainedTokenizerBase
    name: str  # what to call the model: hub id, folder name, GGUF file stem
    revision: str  # identity of the weights as they are served, part of cache keys

    @property
    def graph(self) -> Path:
        """The graph's file; its weights are beside it."""
        return self.folder / GRAPH_FILE

    @property
    def native_graph(self) -> Path | None:
        """The same for our own operators; None where the model has no such form."""
        file = self.folder / NATIVE_GRAPH_FILE
        return file if file.is_file() else None

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self.manifest.context_length

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a text."""
        return frozenset(self.manifest.eos_token_ids)


def prepare_onnx(
    spec: ModelSpec,
    scheme: WeightScheme,
    *,
    calibration_file: Path | None = None,
    progress: Progress | None = None,
) -> PreparedOnnx:
    """Resolve the model that `spec` describes and export it where that has not been done.

    Args:
        spec: the order; its device and dtype are not looked at beyond their names.
        scheme: how to keep the weights. A folder that was exported already has its own.
        calibration_file: a UTF-8 text like those to be served; None takes this package's.
        progress: told of the stages and how far each is.

    Raises:
        OnnxUnsupported: this model cannot be served so; torch may be able to.
        ModelError: see `optimize.errors`; each message says what to do.
    """
    report = progress or ignore_progress
    checked = check_model(spec)
    if isinstance(checked, CheckedOnnx):
        return _open(checked.folder, checked.name)
    exportable = _require_exportable(checked)
    calibration = read_calibration(calibration_file)
    revision = _source_revision(exportable, spec, report)
    folder = (
        spec.cache_folder / "onnx" / _folder_name(exportable.name, revision, scheme, calibration)
    )

    def make(unfinished: Path) -> None:
        # Imports torch and the exporter, which take seconds and serve no later start.
        from optimize.onnx_making import make_onnx  # noqa: PLC0415

        make_onnx(exportable, spec, scheme, calibration, unfinished, report)

    refusal = folder.with_name(f"{folder.name}-refused-{metadata.version('onnxruntime-genai')}.txt")
    if refusal.is_file():  # finding that out again would take as long as the first time
        raise OnnxUnsupported(refusal.read_text())
    if not is_finished(folder):
        about = {"source": str(spec.source), "source_revision": revision, "scheme": scheme.value}
        try:
            make_once(folder, make, about=about, progress=report)
        except OnnxUnsupported as error:
            with suppress(OSError):
                refusal.write_text(str(error))
            raise
        except OSError as error:
            raise unusable(spec.cache_folder, error) from error
    return _open(folder, exportable.name)


def _require_exportable(
    checked: CheckedFolder | CheckedGguf | CheckedRepository | CheckedProgram,
) -> CheckedFolder | CheckedGguf | CheckedRepository:
    if isinstance(checked, CheckedProgram):
        raise OnnxUnsupported(
            f"{checked.name} is a program of torch; give the model that it was made from."
        )
    if isinstance(checked, CheckedFolder) and checked.torch_only is not None:
        raise OnnxUnsupported(
            f"{checked.name} is for torch only: {checked.torch_only}. "
            "Serve it with torch, or give the model that it was made from."
        )
    return checked


def _open(folder: Path, name: str) -> PreparedOnnx:
    note_use(folder)
    manifest = read_manifest(folder)
    return PreparedOnnx(
        folder=folder,
        manifest=manifest,
        tokenizer=load_light_tokenizer(folder),
        name=name,
        revision=_digest(manifest.source_revision, manifest.scheme, manifest.calibration),
    )


def _source_revision(
    checked: CheckedFolder | CheckedGguf | CheckedRepository, spec: ModelSpec, progress: Progress
) -> str:
    match checked:
        case CheckedGguf():
            return gguf_revision(checked.file, cache_folder=spec.cache_folder, progress=progress)
        case CheckedFolder():
            return folder_revision(checked.folder, find_weights(checked.folder))
        case CheckedRepository():
            return checked.folder.name  # the commit


def _folder_name(
    name: str, revision: str, scheme: WeightScheme, calibration: CalibrationText
) -> str:
    stem = re.sub(r"[^\w.-]+", "-", name)[:80]
    text = calibration.digest if scheme.is_calibrated else None
    return f"{stem}-{scheme.value}-{_digest(revision, scheme, text)[:16]}"


def _digest(revision: str, scheme: WeightScheme, calibration: str | None) -> str:
    parts = [revision, scheme.value, calibration, EXPORTER_VERSION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
