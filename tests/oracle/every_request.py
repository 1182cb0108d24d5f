"""A request for every strategy, and for everything that may be asked for beside one.

Whoever runs the engine in a way of its own (`test_sharded`) asks all of them, so that a strategy or
an extra that is added later is tried there as well. All are seeded; none needs an engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from decoding.adjustments import Adjustments, Watermark
from decoding.base import Strategy, has_independent_rows
from decoding.constrained_beam import ConstrainedBeam
from decoding.registry import STRATEGIES
from engine.messages import GenerationRequest, NegativePrompt
from engine.prompt_lookup import PromptLookup
from engine.trace import TraceOptions
from tests.oracle.architectures import VOCAB_SIZE

Extra = Callable[[GenerationRequest], GenerationRequest]


def every_strategy() -> list[Strategy]:
    """All built-in ones by their defaults, with words for the one that is nothing without."""
    strategies = [strategy() for strategy in STRATEGIES.values()]
    words = ConstrainedBeam(force_words=("40 41", ("50", "60 61")))
    return [words if isinstance(each, ConstrainedBeam) else each for each in strategies]


def spell(words: str) -> Sequence[tuple[int, ...]]:
    """Token ids written out, with spaces in between."""
    return [tuple(map(int, words.split()))]


class OnlyEven:
    """A grammar that allows tokens of even id."""

    def allowed(self, generated_ids: Sequence[int]) -> np.ndarray:
        del generated_ids
        return np.full(-(-VOCAB_SIZE // 32), 0x55555555, np.uint32)


def _adjusted(request: GenerationRequest) -> GenerationRequest:
    adjustments = Adjustments(
        logit_bias=((33, 3.0), (120, -3.0)),
        repetition_penalty=1.3,
        presence_penalty=0.4,
        frequency_penalty=0.3,
        dry_multiplier=0.8,
        watermark=Watermark(),
        no_repeat_ngram_size=3,
        bad_words=((33, 34), (90,)),
        min_new_tokens=4,
        suppress_tokens=(9, 80),
        begin_suppress_tokens=(33,),
        forced_eos_token_id=5,
    )
    return replace(request, adjustments=adjustments)


def _begun(request: GenerationRequest) -> GenerationRequest:
    return replace(request, adjustments=Adjustments(forced_bos_token_id=77))


def _restricted(request: GenerationRequest) -> GenerationRequest:
    return replace(request, constraint=OnlyEven())


def _guided(request: GenerationRequest) -> GenerationRequest:
    return replace(request, guidance=NegativePrompt(prompt_ids=(9, 9, 60), scale=2.5))


def _guessed(request: GenerationRequest) -> GenerationRequest:
    if not has_independent_rows(request.strategy):
        return request  # no other strategies can be sped up so
    many = tuple(range(2, 102))  # so that much of what is said has occurred before
    lookup = PromptLookup(num_tokens=4, max_ngram_size=3)
    return replace(request, prompt_ids=many, lookup=lookup)


def _stopped(request: GenerationRequest) -> GenerationRequest:
    return replace(request, stop=lambda generated_ids: len(generated_ids) == 5)


def _scored(request: GenerationRequest) -> GenerationRequest:
    return replace(request, num_alternatives=3, scored_from=1, num_prompt_alternatives=2)


def _traced(request: GenerationRequest) -> GenerationRequest:
    return replace(request, trace=TraceOptions(num_candidates=3, max_steps=40))


EXTRAS: Mapping[str, Extra] = MappingProxyType(
    {
        "adjustments": _adjusted,
        "forced beginning": _begun,
        "grammar": _restricted,
        "guidance": _guided,
        "prompt lookup": _guessed,
        "stop": _stopped,
        "log-probabilities": _scored,
        "trace": _traced,
    }
)
