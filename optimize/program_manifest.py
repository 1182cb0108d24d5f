"""What a folder with a program of torch says of itself: `beamline-program.json`.

Written by `torch_program`, read by whoever runs the program. No torch in this file.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from optimize.errors import CorruptModel
from optimize.fingerprint import write_json
from optimize.model_folder import read_json
from optimize.torch_technique import TorchTechnique

PROGRAM_MANIFEST_FILE = "beamline-program.json"
PROGRAM_FILES: Mapping[TorchTechnique, str] = {
    TorchTechnique.TORCHSCRIPT: "model.pt",
    TorchTechnique.TORCH_EXPORT: "model.pt2",
}
COMPILED_FILE = "compiled.pt2"  # machine code for C++ and Python, where it was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramManifest:
    """The shape of a program's inputs and where it came from. See `torch_program` for them."""

    technique: TorchTechnique
    num_layers: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int  # tokens
    eos_token_ids: tuple[int, ...]
    source_revision: str
    torch_version: str

    @property
    def file(self) -> str:
        """The program's name, beside the manifest."""
        return PROGRAM_FILES[self.technique]

    def write(self, folder: Path) -> None:
        """Store the manifest beside the program."""
        write_json(folder / PROGRAM_MANIFEST_FILE, dict(asdict(self)))


def read_program_manifest(folder: Path) -> ProgramManifest:
    """The manifest in `folder`.

    Raises:
        CorruptModel: it is damaged, or its program is not there.
    """
    path = folder / PROGRAM_MANIFEST_FILE
    content = dict(read_json(path))
    try:
        content["technique"] = TorchTechnique(str(content["technique"]))
        content["eos_token_ids"] = tuple(int(token) for token in content["eos_token_ids"])  # type: ignore[attr-defined]
        manifest = ProgramManifest(**content)  # type: ignore[arg-type]
        has_program = (folder / manifest.file).is_file()
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModel(f"{path} is damaged ({error}). Make the folder again.") from error
    if not has_program:
        raise CorruptModel(f"{folder / manifest.file} is missing. Make the folder again.")
    return manifest
