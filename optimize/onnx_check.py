"""Compares an exported graph with the model it was made from. Called by `onnx_export`.

Prompts of different lengths go through the graph as serving does: in chunks over a past, then one
step with all rows together. An architecture that the builder gets wrong shows here and is refused,
where a list of names would let it pass. Float graphs must agree up to rounding, quantised ones
roughly: how much quality they lose is measured elsewhere (`optimization_report`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnxruntime as ort
import torch
from transformers import AutoModelForCausalLM

from optimize.errors import LoadingFailed, OnnxUnsupported
from optimize.foreign_errors import translated
from optimize.onnx_manifest import OnnxManifest
from optimize.onnx_session import Chunk, Floats, RowSession
from optimize.quiet_bars import quiet_bars
from optimize.weight_scheme import WeightScheme

FLOAT_TOLERANCE = 5e-4  # of the logits' standard deviation
QUANTIZED_TOLERANCE = 2.0  # far off for a broken graph, never reached by a merely coarse one
TOLERANCES = MappingProxyType(
    # What has one scale a tensor can be off by anything; only that it computes is checked.
    {
        WeightScheme.FP32: FLOAT_TOLERANCE,
        WeightScheme.INT8_DYNAMIC: float("inf"),
        WeightScheme.INT8_STATIC: float("inf"),
    }
)
_SHARES = (0.13, 0.47, 1.0)  # of the longest prompt
_CHUNK = 16
_SEED = 0


@dataclass(frozen=True, slots=True)
class Reference:
    """Prompts, and the logits of the original model after each."""

    prompts: Sequence[Sequence[int]]
    logits: Floats  # [prompts, vocabulary]


def run_reference(folder: Path, *, longest: int, trust_remote_code: bool) -> Reference:
    """What the model in `folder` says after a few random prompts of up to `longest` tokens.

    Raises:
        LoadingFailed: transformers cannot load it.
    """
    with translated(lambda reason: LoadingFailed(f"{folder}: {reason}")), quiet_bars():
        module = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    vocab_size = module.config.get_text_config(decoder=True).vocab_size
    prompts = _prompts(vocab_size, longest)
    with torch.inference_mode():
        logits = [module(torch.tensor([prompt])).logits[0, -1].numpy() for prompt in prompts]
    return Reference(prompts, np.stack(logits))


def check_graph(
    session: ort.InferenceSession, manifest: OnnxManifest, reference: Reference, *, tolerance: float
) -> None:
    """Make sure that the graph says the same as the original.

    Raises:
        OnnxUnsupported: it differs by more than `tolerance` standard deviations.
    """
    try:
        got = _logits(session, manifest, reference.prompts)
    except RuntimeError as error:
        raise OnnxUnsupported(
            f"ONNX Runtime cannot run the exported graph ({' '.join(str(error).split())[-300:]}). "
            "Serve the model with torch."
        ) from error
    spread = np.maximum(reference.logits.std(axis=1), 1e-6)
    off = float((np.abs(got - reference.logits).max(axis=1) / spread).max())
    if not off <= tolerance:
        raise OnnxUnsupported(
            f"the exported graph gives other logits than the model itself (off by {off:.2g} "
            "standard deviations), so it would be served wrongly. Serve it with torch."
        )


def _prompts(vocab_size: int, longest: int) -> list[list[int]]:
    generator = np.random.default_rng(_SEED)
    lengths = [max(round(share * longest), 1) for share in _SHARES]
    return [generator.integers(vocab_size, size=length).tolist() for length in lengths]


def _logits(
    session: ort.InferenceSession, manifest: OnnxManifest, prompts: Sequence[Sequence[int]]
) -> Floats:
    rows = RowSession(session, manifest, rows=len(prompts), max_length=max(map(len, prompts)))
    for row, prompt in enumerate(prompts):
        for start in range(0, len(prompt) - 1, _CHUNK):
            chunk = prompt[start : min(start + _CHUNK, len(prompt) - 1)]
            ids = np.array([chunk], np.int64)
            rows.forward(Chunk(first_row=row, token_ids=ids, lengths=[start + len(chunk)]))
    last = np.array([[prompt[-1]] for prompt in prompts], np.int64)
    lengths = [len(prompt) for prompt in prompts]
    (logits,) = rows.forward(Chunk(first_row=0, token_ids=last, lengths=lengths))
    return logits[:, -1]
