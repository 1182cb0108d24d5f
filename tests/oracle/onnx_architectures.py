"""Which of the suite's models can be served from ONNX Runtime, in sizes that its operators take.

Heads of whole vectors, and a context of several pieces of a prompt. What is exported and what is
refused, and why, is written out, so that a new version of the exporter shows. Data only.
"""

from collections.abc import Mapping
from dataclasses import replace

from tests.oracle.architectures import SERVED, Architecture

CONTEXT_LENGTH = 256
_SIZES: Mapping[str, object] = {"hidden_size": 64, "max_position_embeddings": CONTEXT_LENGTH}
_BY_NAME = {architecture.name: architecture for architecture in SERVED}


def _wide(name: str, **options: object) -> Architecture:
    architecture = _BY_NAME[name]
    sizes = _SIZES if architecture.is_common else {}
    return replace(architecture, options={**architecture.options, **sizes, **options})


NATIVE = (
    *map(_wide, ("llama", "llama-3-rope", "mistral-window", "qwen2-window", "qwen3", "gemma")),
    _wide("granite"),
)
"""Exported, with a form for our own operators."""

ORDINARY = (
    _wide("gemma-2"),  # its scores are capped, which our attention does not do
    replace(_wide("phi", qk_layernorm=False, hidden_size=128), name="phi-without-norms"),
)
"""Exported, for ONNX Runtime's operators only."""

EXPORTED = (*NATIVE, *ORDINARY)
COMMON = ("llama", "llama-3-rope", "mistral-window", "qwen2-window", "qwen3", "gemma-2")
"""Those of the exported ones that every run of the suite looks at, by name."""

_UNKNOWN = "is not currently supported"
_FAILING: Mapping[str, str] = {
    "gemma-3": "KeyError: 'rope_type'",
    "phi": "other logits than the model itself",  # norms of queries and keys are left out
    "phi-3-window": "KeyError: 'multi_cache'",
    "smollm-3": "KeyError: 'position_ids'",
}
_EXPORTED_NAMES = {architecture.name for architecture in EXPORTED}
REFUSED = tuple(
    (_wide(name, **({"hidden_size": 128} if name == "phi" else {})), _FAILING.get(name, _UNKNOWN))
    for name in _BY_NAME
    if name not in _EXPORTED_NAMES
)
"""What is not exported, each with words of the reason."""
