"""The exact distributions that sampling must follow, from the processors of `transformers`.

Used by the tests of processors (scores) and of sampling (probabilities). Parameters come by their
`transformers.GenerationConfig` names and are applied in the order `generate` applies them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from decoding.adjustments import NO_ADJUSTMENTS, Adjustments
from decoding.base import Strategy

NEUTRAL: Mapping[str, float] = {
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_h": 1.0,
}


def parameters_of(
    strategy: Strategy, adjustments: Adjustments = NO_ADJUSTMENTS
) -> Mapping[str, float]:
    """A sampling request's parameters by name, neutral where it has none."""
    own = {field.name: getattr(strategy, field.name) for field in fields(strategy)}
    own["repetition_penalty"] = adjustments.repetition_penalty
    return {name: own.get(name, neutral) for name, neutral in NEUTRAL.items()}


def process_by_transformers(
    scores: Tensor, token_ids: Sequence[int], parameters: Mapping[str, float]
) -> Tensor:
    """The scores [vocab] of a row that holds `token_ids`, processed; a new tensor.

    Typical sampling is asked in float64: close tokens change places where it rounds.
    """
    processors = LogitsProcessorList(_processors(parameters))
    is_close = parameters.get("typical_p", 1.0) < 1.0
    precise = scores.double() if is_close else scores.clone()
    return processors(torch.tensor([token_ids]), precise[None])[0].to(scores.dtype)


def next_token_distribution(
    model: PreTrainedModel,
    token_ids: Sequence[int],
    strategy: Strategy,
    adjustments: Adjustments = NO_ADJUSTMENTS,
) -> Tensor:
    """Probabilities [vocab] float64 of the token that follows `token_ids`."""
    with torch.inference_mode():
        logits = model(torch.tensor([token_ids])).logits[0, -1]
    scores = process_by_transformers(logits, token_ids, parameters_of(strategy, adjustments))
    return scores.double().softmax(dim=0)


def _processors(parameters: Mapping[str, float]) -> Iterator[LogitsProcessor]:
    for name, build in _BUILDERS.items():
        value = parameters.get(name, NEUTRAL[name])
        if value != NEUTRAL[name]:
            yield build(value)


_BUILDERS: Mapping[str, Callable[[float], LogitsProcessor]] = {  # in the order of `generate`
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "temperature": TemperatureLogitsWarper,
    "top_h": TopHLogitsWarper,
    "top_k": lambda value: TopKLogitsWarper(int(value)),
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
    "epsilon_cutoff": EpsilonLogitsWarper,
    "eta_cutoff": EtaLogitsWarper,
}
