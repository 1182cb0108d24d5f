"""What the model itself thinks: log-probabilities of given tokens, and of the most likely ones.

Called by the engine for requests that ask to see them; nothing here depends on a strategy or an
adjustment, and nothing is chosen.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from decoding.base import Alternatives, TokenScore
from decoding.normaliser import log_normaliser


def find_alternatives(logits: Tensor, counts: Sequence[int]) -> list[Alternatives]:
    """The `counts[i]` most likely tokens of each row of `logits` [rows, vocab]."""
    most = min(max(counts, default=0), logits.shape[1])
    if not most:
        return [()] * len(counts)
    logits = logits.float()
    best = torch.topk(logits, most, dim=1)
    logprobs = (best.values - log_normaliser(logits)).tolist()
    return [
        tuple(zip(ids[:count], values[:count], strict=True))
        for ids, values, count in zip(best.indices.tolist(), logprobs, counts, strict=True)
    ]


def score_tokens(
    logits: Tensor, token_ids: Sequence[int], num_alternatives: int
) -> list[TokenScore]:
    """Score for each row of `logits` [rows, vocab] the token that followed."""
    logits = logits.float()
    ids = torch.tensor(token_ids, device=logits.device)
    logprobs = (logits.gather(1, ids[:, None]) - log_normaliser(logits)).flatten().tolist()
    alternatives = find_alternatives(logits, [num_alternatives] * len(token_ids))
    return list(map(TokenScore, token_ids, logprobs, alternatives))
