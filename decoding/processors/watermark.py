"""Marks a text: the logits of the tokens that are green at a place gain the watermark's bias.

As `transformers.WatermarkLogitsProcessor` with `lefthash`; see `decoding.watermark`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from decoding.adjustments import Watermark
from decoding.watermark import green_tokens


def apply_watermark(
    scores: Tensor, rows: Sequence[int], previous: Sequence[int], watermarks: Sequence[Watermark]
) -> Tensor:
    """Bias some `rows` of `scores` [all, vocab], each by its watermark and its previous token."""
    vocab_size = scores.shape[1]
    green = np.stack(
        [
            green_tokens(watermark, token, vocab_size)
            for watermark, token in zip(watermarks, previous, strict=True)
        ]
    )
    bias = torch.tensor([watermark.bias for watermark in watermarks], device=scores.device)
    at = torch.tensor(rows, device=scores.device)
    is_green = torch.from_numpy(green).to(scores.device)
    return scores.index_copy(0, at, scores[at] + is_green * bias[:, None])
