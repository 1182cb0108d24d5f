"""How far a variant is from its original on a text: perplexity, divergence, agreement.

Used for reports. Runs both one token a step and many rows at once, the way serving does, so what
is measured is what is served. No randomness: the same text gives the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimize.errors import InvalidCalibration
from optimize.report import Report
from optimize.steps import Floats, Steps, TokenIds

NUM_ROWS = 16  # pieces of the text that run side by side
MAX_TOKENS = 256  # of a piece
_MIN_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a candidate keeps of its reference on a text."""

    num_tokens: int  # predictions compared
    reference_perplexity: float
    perplexity: float
    divergence: float  # Kullback-Leibler of the candidate from the reference, nats a token
    agreement: float  # share of tokens on which both find the same one most likely


def measure_quality(
    reference: Steps, candidate: Steps, token_ids: Sequence[int], report: Report
) -> Quality:
    """Compare a variant with the original on a text.

    Raises:
        InvalidCalibration: the text is too short.
    """
    pieces = _pieces(token_ids, min(MAX_TOKENS, reference.context_length))
    for steps in (reference, candidate):
        steps.start(*pieces.shape)
    sums = np.zeros(4)
    num_steps = pieces.shape[1] - 1
    for position in range(num_steps):
        token = pieces[:, position : position + 1]
        want, got = (_log_probabilities(steps.read(token)) for steps in (reference, candidate))
        sums += _compare(want, got, pieces[:, position + 1])
        report((position + 1) / num_steps)
    num_tokens = len(pieces) * num_steps
    reference_loss, loss, divergence, agreement = sums / num_tokens
    return Quality(
        num_tokens=num_tokens,
        reference_perplexity=float(np.exp(reference_loss)),
        perplexity=float(np.exp(loss)),
        divergence=float(divergence),
        agreement=float(agreement),
    )


def _pieces(token_ids: Sequence[int], most_tokens: int) -> TokenIds:
    """The text as rows of equal length."""
    length = min(len(token_ids) // NUM_ROWS, most_tokens)
    if length < _MIN_TOKENS:
        raise InvalidCalibration(
            f"the text to measure on has {len(token_ids)} tokens and needs "
            f"{NUM_ROWS * _MIN_TOKENS} at least. Give a longer one."
        )
    return np.array(token_ids[: NUM_ROWS * length], np.int64).reshape(NUM_ROWS, length)


def _log_probabilities(logits: Floats) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def _compare(
    want: NDArray[np.float64], got: NDArray[np.float64], next_ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums over rows: both losses, the divergence, and how often both choose the same."""
    rows = np.arange(len(next_ids))
    return np.array(
        [
            -want[rows, next_ids].sum(),
            -got[rows, next_ids].sum(),
            (np.exp(want) * (want - got)).sum(),
            (want.argmax(axis=1) == got.argmax(axis=1)).sum(),
        ]
    )
