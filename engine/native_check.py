"""Does our code for ONNX Runtime give what its own operators give, on this machine, for this model?

The operators are compiled where they run, by a compiler and for a processor nobody has seen before,
so the composition root compares once, when a library first meets a model.
"""

import numpy as np

from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.errors import NativeUnavailable
from engine.ragged_trial import ragged_logits
from engine.row_runner import PIECE_TOKENS
from engine.runner import Runner

PROMPT_LENGTHS = (4, 40, 11)  # the longest spans blocks
MOST_OFF = 0.5  # root mean square, of the logits' standard deviation: beyond any rounding
_SEED = 0


def trial_config(shape: DecoderShape, config: EngineConfig) -> EngineConfig:
    """A configuration for the reference, which only has to hold the trial's prompts."""
    num_rows = len(PROMPT_LENGTHS)
    return EngineConfig(
        max_rows=num_rows,
        max_step_tokens=num_rows + PIECE_TOKENS,
        kv_cache_bytes=2 * num_rows * PIECE_TOKENS * shape.bytes_per_token,
        num_threads=config.num_threads,
    )


def check_native(runner: Runner, reference: Runner) -> None:
    """Run both over the same prompts and compare.

    Raises:
        NativeUnavailable: they differ by more than rounding; the operators must not be used.
    """
    generator = np.random.default_rng(_SEED)
    lengths = [min(length, runner.context_length) for length in PROMPT_LENGTHS]
    prompts = [generator.integers(runner.vocab_size, size=length).tolist() for length in lengths]
    want, got = (
        np.stack([logits.numpy() for logits in ragged_logits(one, prompts)])
        for one in (reference, runner)
    )
    spread = np.maximum(want.std(axis=1), 1e-6)
    off = float((np.sqrt(np.square(want - got).mean(axis=1)) / spread).max())
    if not off <= MOST_OFF:
        raise NativeUnavailable(
            f"the operators compiled on this machine give other logits (off by {off:.2g} standard "
            "deviations); please report the processor and the compiler"
        )
