"""Compares a variant, opened from its folder, with the model it was made from.

Called by `torch_variant` when the variant has just been made.
"""

import numpy as np

from optimize.errors import VariantDiffers
from optimize.steps import Floats, Steps

EXACT_TOLERANCE = 1e-3  # of the logits' standard deviation: rounding in another order
HALF_TOLERANCE = 0.25  # the same in 16 bits
COARSE_TOLERANCE = 2.0  # far off for a broken model, never reached by one with coarse weights
_PROMPT_TOKENS = 24
_NEW_TOKENS = 4
_NUM_ROWS = 3
_SEED = 0


def check_variant(original: Steps, variant: Steps, *, tolerance: float) -> None:
    """Have both read a prompt and then several rows, and compare what they say.

    Raises:
        VariantDiffers: they differ by more than `tolerance` standard deviations of the logits.
    """
    want, got = (_answers(steps) for steps in (original, variant))
    spread = np.maximum(want.std(axis=1), 1e-6)
    off = float((np.abs(want - got).max(axis=1) / spread).max())
    if not off <= tolerance:
        raise VariantDiffers(
            f"the variant gives other logits than the model (off by {off:.2g} standard "
            f"deviations, where {tolerance:g} are allowed), so it was not kept. "
            "Serve the model as it is, or choose another technique."
        )


def _answers(steps: Steps) -> Floats:
    """Logits [answers, vocab] after a prompt and after each token of some rows."""
    generator = np.random.default_rng(_SEED)
    length = min(_PROMPT_TOKENS, steps.context_length - 1)
    prompt = generator.integers(steps.vocab_size, size=(1, length))
    rows = generator.integers(steps.vocab_size, size=(_NUM_ROWS, _NEW_TOKENS))
    steps.start(1, length + 1)
    answers = [steps.read(prompt), steps.read(prompt[:, :1])]
    steps.start(_NUM_ROWS, _NEW_TOKENS)
    answers += [steps.read(rows[:, at : at + 1]) for at in range(_NEW_TOKENS)]
    return np.concatenate(answers)
