"""What an exported folder says of itself: `beamline-onnx.json`. Written last, read first.

Made by `onnx_export`; read by `onnx_prepare` and by the engine's runner, which needs nothing else
to bind the graph. Reading it imports neither torch nor ONNX Runtime.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from optimize.attention_shape import AttentionShape
from optimize.errors import CorruptModel
from optimize.fingerprint import write_json
from optimize.model_folder import read_json
from optimize.weight_scheme import WeightScheme

ONNX_MANIFEST_FILE = "beamline-onnx.json"
GRAPH_FILE = "model.onnx"  # beside it
NATIVE_GRAPH_FILE = "native.onnx"  # the same with our own operators, where it can be
EXPORTER_VERSION = 7  # raise it when the same model would give another graph


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxManifest:
    """The shape of a decoder graph and where it came from."""

    scheme: WeightScheme
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    has_tied_embeddings: bool  # the matrix that embeds tokens gives the logits, too
    context_length: int  # tokens
    eos_token_ids: tuple[int, ...]
    source_revision: str
    calibration: str | None  # SHA-256 of the text; None for schemes without one
    exporter_version: int
    onnxruntime_version: str
    builder_version: str

    @property
    def attention(self) -> AttentionShape:
        """The heads of its attention layers."""
        return AttentionShape(self.num_layers, self.num_heads, self.num_kv_heads, self.head_dim)


def write_manifest(folder: Path, manifest: OnnxManifest) -> None:
    """Store the manifest in `folder`."""
    content: dict[str, object] = dict(asdict(manifest))
    write_json(folder / ONNX_MANIFEST_FILE, content)


def read_manifest(folder: Path) -> OnnxManifest:
    """The manifest in `folder`.

    Raises:
        CorruptModel: there is none, or it lacks something.
    """
    path = folder / ONNX_MANIFEST_FILE
    if not path.is_file():
        raise CorruptModel(f"{folder} has no {ONNX_MANIFEST_FILE}. Export the model again.")
    return _parse(path, read_json(path))


def _parse(path: Path, content: Mapping[str, object]) -> OnnxManifest:
    try:
        values = {field.name: content[field.name] for field in fields(OnnxManifest)}
        values["scheme"] = WeightScheme(str(values["scheme"]))
        values["eos_token_ids"] = tuple(map(int, values["eos_token_ids"]))  # type: ignore[call-overload]
        return OnnxManifest(**values)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModel(f"{path} is damaged ({error}). Export the model again.") from error
