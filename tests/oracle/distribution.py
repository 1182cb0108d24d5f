"""The exact distributions that sampling must follow, from the processors of `transformers`.

Used by the tests of processors (scores) and of sampling (probabilities). Parameters come by their
`transformers.GenerationConfig` names and are applied in the order `generate` applies them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from decoding.base import Strategy

NEUTRAL: Mapping[str, float] = {
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
}


def parameters_of(strategy: Strategy) -> Mapping[str, float]:
    """A sampling strategy's parameters by name, neutral where it has none."""
    own = {field.name: getattr(strategy, field.name) for field in fields(strategy)}
    return {name: own.get(name, neutral) for name, neutral in NEUTRAL.items()}


def process_by_transformers(
    scores: Tensor, token_ids: Sequence[int], parameters: Mapping[str, float]
) -> Tensor:
    """The scores [vocab] of a row that holds `token_ids`, processed; a new tensor."""
    processors = LogitsProcessorList(_processors(parameters))
    return processors(torch.tensor([token_ids]), scores[None].clone())[0]


def next_token_distribution(
    model: PreTrainedModel, token_ids: Sequence[int], strategy: Strategy
) -> Tensor:
    """Probabilities [vocab] float64 of the token that follows `token_ids`."""
    with torch.inference_mode():
        logits = model(torch.tensor([token_ids])).logits[0, -1]
    scores = process_by_transformers(logits, token_ids, parameters_of(strategy))
    return scores.double().softmax(dim=0)


def _processors(parameters: Mapping[str, float]) -> Iterator[LogitsProcessor]:
    if parameters["repetition_penalty"] != 1.0:
        yield RepetitionPenaltyLogitsProcessor(parameters["repetition_penalty"])
    if parameters["temperature"] != 1.0:
        yield TemperatureLogitsWarper(parameters["temperature"])
    if parameters["top_k"]:
        yield TopKLogitsWarper(int(parameters["top_k"]))
    if parameters["top_p"] < 1.0:
        yield TopPLogitsWarper(parameters["top_p"])
    if parameters["min_p"]:
        yield MinPLogitsWarper(parameters["min_p"])
