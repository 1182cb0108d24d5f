"""What `transformers` answers to a request: `model.generate` on one prompt at a time.

The oracle of the suite. It takes the same `GenerationRequest` the engine takes, so both sides
cannot drift apart, and it knows nothing of the engine's insides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from decoding.adjustments import Adjustments
from decoding.base import StopCheck, Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from engine.messages import GenerationRequest, RequestFinished

SCORE_TOLERANCE = 1e-4  # of a beam's score; a hundred-thousandth of it where that is more


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Generated tokens of each returned sequence, end token included, and the beams' scores."""

    token_ids: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...] = ()


def generate_reference(model: PreTrainedModel, request: GenerationRequest) -> Reference:
    """The answer of `model.generate`; the request's strategy is `Greedy` or `Beam`."""
    prompt = torch.tensor([request.prompt_ids])
    answer = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=request.max_new_tokens,
        eos_token_id=sorted(request.eos_token_ids) or None,
        pad_token_id=0,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        stopping_criteria=_stopping_criteria(request),
        **_generation_options(request.strategy),
        **_adjusting_options(request.adjustments),
    )
    generated = answer.sequences[:, prompt.shape[1] :].tolist()
    return Reference(
        token_ids=tuple(_until_end(ids, request) for ids in generated),
        scores=tuple(answer.sequences_scores.tolist()) if "sequences_scores" in answer else (),
    )


def describe_difference(
    request: GenerationRequest, answer: RequestFinished, reference: Reference
) -> str | None:
    """How an answer differs from the reference, or None if it does not."""
    ours = tuple(sequence.token_ids for sequence in answer.sequences)
    if ours != reference.token_ids:
        return f"{request.strategy}: tokens {ours}, reference {reference.token_ids}"
    for sequence, score in zip(answer.sequences, reference.scores, strict=False):
        tolerance = SCORE_TOLERANCE * max(1.0, abs(score) / 10)
        if sequence.score is None or abs(sequence.score - score) > tolerance:
            return f"{request.strategy}: score {sequence.score}, reference {score}"
    return None


def _generation_options(strategy: Strategy) -> Mapping[str, object]:
    if isinstance(strategy, Greedy):
        return {}
    assert isinstance(strategy, Beam), f"no reference for {strategy}"
    return {
        "num_beams": strategy.num_beams,
        "length_penalty": strategy.length_penalty,
        "early_stopping": strategy.early_stopping,
        "num_return_sequences": strategy.num_return_sequences,
    }


def _adjusting_options(adjustments: Adjustments) -> Mapping[str, object]:
    """Only what is asked for: some of them have no value that does nothing."""
    assert adjustments.presence_penalty == adjustments.frequency_penalty == 0, "it has none"
    assert adjustments.dry_multiplier == 0, "it has none"
    options = {
        "sequence_bias": {(token_id,): bias for token_id, bias in adjustments.logit_bias},
        "repetition_penalty": adjustments.repetition_penalty,
        "no_repeat_ngram_size": adjustments.no_repeat_ngram_size,
        "bad_words_ids": [list(word) for word in adjustments.bad_words],
        "min_new_tokens": adjustments.min_new_tokens,
        "suppress_tokens": list(adjustments.suppress_tokens),
        "begin_suppress_tokens": list(adjustments.begin_suppress_tokens),
        "forced_eos_token_id": adjustments.forced_eos_token_id,
    }
    return {name: value for name, value in options.items() if value}


class _Stop(StoppingCriteria):
    """A request's stop check, for every row of a search."""

    def __init__(self, stop: StopCheck, num_prompt_tokens: int) -> None:
        self._stop = stop
        self._num_prompt_tokens = num_prompt_tokens

    def __call__(self, input_ids: Tensor, *_: object, **__: object) -> Tensor:
        generated = input_ids[:, self._num_prompt_tokens :].tolist()
        return torch.tensor([self._stop(ids) for ids in generated])


def _stopping_criteria(request: GenerationRequest) -> StoppingCriteriaList:
    criteria = StoppingCriteriaList()
    if request.stop is not None:
        criteria.append(_Stop(request.stop, len(request.prompt_ids)))
    return criteria


def _until_end(token_ids: Sequence[int], request: GenerationRequest) -> tuple[int, ...]:
    """Without the padding that follows an end token or a stop."""
    for end in range(1, len(token_ids)):
        generated = token_ids[:end]
        is_stopped = request.stop is not None and request.stop(generated)
        if is_stopped or generated[-1] in request.eos_token_ids:
            return tuple(generated)
    return tuple(token_ids)
