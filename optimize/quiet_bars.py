"""Keeps transformers, the hub client and the GGUF reader from drawing progress bars.

Used by `gguf_conversion`, `hub` and `loading` around their calls: the terminal belongs to the
caller, who has the stages reported instead. The switches are process-wide, so they are put back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import transformers.modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging as transformers_logging

from optimize.report import Report


@contextmanager
def quiet_bars() -> Iterator[None]:
    """No bar of transformers or of the hub client inside."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def reported_gguf_reader(report: Report) -> Iterator[None]:
    """Inside, the GGUF reader reports the fraction of tensors read instead of drawing a bar.

    It names tqdm itself, so transformers' switch does not reach it and its name is replaced.
    """
    original = vars(gguf_reader)["tqdm"]
    vars(gguf_reader)["tqdm"] = _reporting_bar(report)
    try:
        yield
    finally:
        vars(gguf_reader)["tqdm"] = original


def _reporting_bar(report: Report) -> Callable[..., Iterator[object]]:
    def bar(tensors: Sequence[object], **_options: object) -> Iterator[object]:
        for number, tensor in enumerate(tensors, start=1):
            yield tensor
            report(number / len(tensors))

    return bar
