"""Turns the model in a GGUF file into a transformers folder. Handed to `conversion` by `prepare`.

The weights are written as float32, equal to the values that the file's blocks stand for; a
smaller dtype is a matter of loading. Transformers does the reading; what it would silently leave
out or invent is refused here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from optimize.errors import ConversionFailed, UnsupportedModelFormat
from optimize.foreign_errors import translated
from optimize.gguf_header import GgufHeader
from optimize.loading import LoadingInfo
from optimize.quiet_bars import quiet_bars, reported_gguf_reader
from optimize.report import Report

_READ_SHARE = (0.1, 0.6)  # of the whole: what reading the tensors takes, where it starts and ends
_TOKENIZER_SHARE = 0.8
_SLIDING_WINDOW_KEY = "attention.sliding_window"


def convert_gguf(file: Path, header: GgufHeader, target: Path, report: Report) -> None:
    """Write the model, its tokenizer and its generation settings into the folder `target`.

    Raises:
        ConversionFailed: transformers cannot read this file's weights or vocabulary.
        UnsupportedModelFormat: it can, and the result would not be the same model.
        OSError: the folder cannot be written.
    """
    report(0.0)
    with quiet_bars():
        model = _read_model(file, header, report)
        tokenizer = _read_tokenizer(file)
        report(_TOKENIZER_SHARE)
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _read_model(file: Path, header: GgufHeader, report: Report) -> PreTrainedModel:
    start, end = _READ_SHARE
    reading = reported_gguf_reader(lambda fraction: report(start + fraction * (end - start)))
    with translated(lambda reason: _failed(file, reason)), reading:
        loaded = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
        model, info = cast("tuple[PreTrainedModel, LoadingInfo]", loaded)
    _check_complete(file, sorted(info["missing_keys"]))
    _check_sliding_window(file, header, model)
    if hasattr(model.config, "quantization_config"):
        # What is saved is a plain model; the mark of a quantised one would break its loading.
        del model.config.quantization_config
    return model


def _read_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    with translated(lambda reason: _failed(file, reason)):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True
        )
    return tokenizer


def _check_complete(file: Path, missing: Sequence[str]) -> None:
    if missing:
        raise ConversionFailed(
            f"{file} lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}, ...), "
            "which would be random. Use the model's own folder with safetensors weights instead."
        )


def _check_sliding_window(file: Path, header: GgufHeader, model: PreTrainedModel) -> None:
    stated = header.setting(_SLIDING_WINDOW_KEY)
    kept = getattr(model.config.get_text_config(), "sliding_window", None)
    if stated and stated != kept:
        raise UnsupportedModelFormat(
            f"{file} has a sliding attention window of {stated} tokens, which transformers reads "
            f"as {kept}. Use the model's own folder with safetensors weights instead."
        )


def _failed(file: Path, reason: str) -> ConversionFailed:
    return ConversionFailed(
        f"{file} could not be converted ({reason}). Download it again, or use the model's own "
        "folder with safetensors weights instead."
    )
