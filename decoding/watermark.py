"""A watermark in the choice of tokens, and how to find it: red and green lists.

Kirchenbauer et al. 2023, arXiv:2301.10226, with the lists of `transformers`' `lefthash` scheme: the
token before a place, with a secret key, decides which share of the vocabulary is green there; green
tokens gain a bias. Whoever knows the key counts green tokens: far more of them than chance explains
mean that the text was marked. `transformers.WatermarkDetector` finds it too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from decoding.adjustments import Watermark

MAX_KEPT = 2048  # lists remembered, of an eighth of a byte a token of the vocabulary
DETECTION_THRESHOLD = 3.0  # standard deviations above chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What was counted in a text."""

    num_tokens_scored: int
    num_green_tokens: int
    z_score: float  # standard deviations above what chance would give
    p_value: float  # how likely so many are by chance

    @property
    def is_watermarked(self) -> bool:
        """Whether chance is ruled out as `transformers` has it."""
        return self.z_score > DETECTION_THRESHOLD


def detect(token_ids: Sequence[int], watermark: Watermark, vocab_size: int) -> Detection:
    """Count the green tokens of a text, each pair of neighbours once for each time it occurs.

    The text has two tokens at least: the first only tells what is green after it.
    """
    pairs = list(pairwise(token_ids))
    num_green = sum(
        bool(green_tokens(watermark, previous, vocab_size)[token]) for previous, token in pairs
    )
    ratio, count = watermark.greenlist_ratio, len(pairs)
    z_score = (num_green - ratio * count) / math.sqrt(count * ratio * (1 - ratio))
    return Detection(
        num_tokens_scored=count,
        num_green_tokens=num_green,
        z_score=z_score,
        p_value=0.5 * math.erfc(z_score / math.sqrt(2)),
    )


def green_tokens(watermark: Watermark, previous_id: int, vocab_size: int) -> NDArray[np.bool_]:
    """Which tokens are green after this one [vocab]."""
    key, ratio = watermark.hashing_key, watermark.greenlist_ratio
    packed = _green_bits(key, ratio, previous_id, vocab_size)
    return np.unpackbits(packed, count=vocab_size).astype(np.bool_)


@lru_cache(MAX_KEPT)
def _green_bits(
    hashing_key: int, ratio: float, previous_id: int, vocab_size: int
) -> NDArray[np.uint8]:
    generator = torch.Generator().manual_seed(hashing_key * previous_id % (2**64 - 1))
    order = torch.randperm(vocab_size, generator=generator).numpy()
    green = np.zeros(vocab_size, np.bool_)
    green[order[: int(vocab_size * ratio)]] = True
    return np.packbits(green)
