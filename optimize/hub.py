"""Brings a model of the hub onto this machine, into the hub client's own cache.

Called by `check` for the small files that describe a model and by `prepare` for its weights.
Fetches safetensors, JSON and tokenizer files only: never a pickle, and Python code only when it is
trusted. Without a network the cache answers. Torch-free.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of its HTTP library
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from optimize.errors import HubUnavailable, InvalidModelFolder, ModelError, SourceNotFound
from optimize.model_folder import INDEX_FILE, SINGLE_FILE, weight_file_names
from optimize.report import Report
from optimize.source import HubRepository

# Top-level files only: patterns match whole paths, and no name in a subfolder is needed.
_DESCRIBING_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_CODE_FILES = ("*.py",)
_HUB_ERRORS = (OSError, HTTPError, EntryNotFoundError, HFValidationError)


def fetch_description(repository: HubRepository, *, trust_remote_code: bool) -> Path:
    """The local folder of a hub model, with everything but its weights.

    Raises:
        SourceNotFound: the hub knows no such model or revision, or does not let this user see it.
        HubUnavailable: the hub does not answer and the cache does not have the model.
    """
    patterns = _DESCRIBING_FILES + (_CODE_FILES if trust_remote_code else ())
    return _fetch(repository, patterns, lambda _fraction: None)


def fetch_weights(repository: HubRepository, folder: Path, report: Report) -> None:
    """Add the safetensors weights to the described model in `folder`.

    Raises:
        InvalidModelFolder: the model has no safetensors weights on the hub.
        HubUnavailable: the download failed; what has arrived is kept for the next try.
    """
    has_index = (folder / INDEX_FILE).is_file()
    names = weight_file_names(folder) if has_index else (SINGLE_FILE,)
    # The snapshot's own commit: the branch may have moved since the description was fetched.
    _fetch(HubRepository(repository.name, folder.name), names, report)
    if not all((folder / name).is_file() for name in names):
        raise InvalidModelFolder(
            f"{repository.name} has no safetensors weights on the hub ({names[0]} is not there). "
            "Choose a revision or a model that has them; pickled weights are not loaded."
        )


def _fetch(repository: HubRepository, patterns: Sequence[str], report: Report) -> Path:
    try:
        folder = snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=list(patterns),
            ignore_patterns=["*/*"],
            tqdm_class=_reporting_bar(report),  # type: ignore[arg-type]
        )
    except _HUB_ERRORS as error:
        raise _explain(repository, error) from error
    return Path(folder)


def _explain(repository: HubRepository, error: Exception) -> ModelError:
    name = repository.name
    if isinstance(error, GatedRepoError):
        return SourceNotFound(
            f"{name} is gated: accept its terms on its hub page and log in with `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return SourceNotFound(
            f"model {name!r}: no such file or folder here, and the hub has no such model (or it "
            "is private: log in with `hf auth login`). Check the spelling."
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceNotFound(
            f"{name} has no revision {repository.revision!r}. Give a branch, a tag or a commit."
        )
    return HubUnavailable(
        f"model {name!r}: no such file or folder here, and the hub cannot be asked for it "
        f"({type(error).__name__}). Check the network, or give a local folder or GGUF file."
    )


def _reporting_bar(report: Report) -> type["tqdm[object]"]:
    """A bar for the hub client that draws nothing and reports the share of bytes that arrived."""

    class ReportingBar(tqdm):  # type: ignore[type-arg]  # has no subscript at run time
        def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  # tqdm's own
            self._counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self._counts_bytes and self.total:
                report(min(self.n / self.total, 1.0))

    return ReportingBar
