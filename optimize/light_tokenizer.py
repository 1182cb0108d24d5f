"""Keeps a tokenizer so that it loads in a moment, without torch.

Written by `onnx_export`, loaded by `onnx_prepare`. What tokenizer classes add in Python does not
survive that, so keeping one is refused where the kept one reads a text otherwise.
"""

from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from optimize.errors import LoadingFailed, OnnxUnsupported
from optimize.foreign_errors import translated

_PROBES = (
    "",
    " two  spaces\n\n\ttabs",
    "Größe, 東京, 🙂 and 3.14",
    "<s>[INST] <|im_start|>user\nhi",
)
_PROBE_CHARACTERS = 4000  # of the longer text


def keep_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, *, probe: str) -> None:
    """Write the tokenizer and its chat template into `folder`.

    Raises:
        OnnxUnsupported: loaded from there it would encode or decode `probe` otherwise.
    """
    tokenizer.save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise OnnxUnsupported(
            f"{type(tokenizer).__name__} has no fast form, which serving from ONNX needs. "
            "Serve the model with torch."
        )
    kept = load_light_tokenizer(folder)
    for text in (*_PROBES, probe[:_PROBE_CHARACTERS]):
        ids = tokenizer.encode(text)
        is_same = kept.encode(text) == ids and kept.decode(ids) == tokenizer.decode(ids)
        if not is_same or kept.chat_template != tokenizer.chat_template:
            raise OnnxUnsupported(
                f"{type(tokenizer).__name__} cannot be kept as a plain tokenizer file: it would "
                "encode texts otherwise. Serve the model with torch."
            )


def load_light_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that `keep_tokenizer` wrote into `folder`.

    Raises:
        LoadingFailed: its files are missing or damaged.
    """
    with translated(lambda reason: LoadingFailed(f"the tokenizer in {folder}: {reason}")):
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True
        )
    return tokenizer
