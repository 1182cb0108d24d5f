"""The requests of the oracle suite: prompts of many lengths under many parameters, all seeded."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice, product

import torch
from transformers import PreTrainedModel

from decoding.adjustments import NO_ADJUSTMENTS, Adjustments
from decoding.base import Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from decoding.top_k import TopKSampling
from decoding.top_p import TopPSampling
from engine.messages import GenerationRequest
from tests.oracle.architectures import NUM_SPECIAL_TOKENS, VOCAB_SIZE
from tests.oracle.reference import generate_reference

PROMPT_LENGTHS = (1, 2, 6, 7, 8, 13, 16, 17, 24, 31, 40)  # around windows and blocks and beyond
MAX_NEW_TOKENS = (14, 3, 11, 1, 18)

GREEDY: tuple[Strategy, ...] = (*[Greedy()] * 8,)
BEAMS: tuple[Strategy, ...] = tuple(
    Beam(
        num_beams=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        num_return_sequences=1 + at % num_beams,
    )
    for at, ((length_penalty, early_stopping), num_beams) in enumerate(
        zip(product((0.0, 0.6, 1.0, 2.0, -1.0), (False, True, "never")), cycle((2, 3, 4)))
    )
)
SAMPLES: tuple[Strategy, ...] = (
    Sample(),
    Sample(temperature=1.6, top_k=0, top_p=1.0, num_return_sequences=3),
    Sample(temperature=0.8, min_p=0.05, typical_p=0.9),
    TopKSampling(top_k=7, num_return_sequences=2),
    TopPSampling(top_p=0.7, temperature=1.2),
)

PLAIN = NO_ADJUSTMENTS
ADJUSTMENTS: tuple[Adjustments, ...] = (
    *(PLAIN, PLAIN, PLAIN, Adjustments(repetition_penalty=1.4)),
    *(PLAIN, Adjustments(no_repeat_ngram_size=2, suppress_tokens=(9, 80, 81)), PLAIN, PLAIN),
    *(PLAIN, Adjustments(repetition_penalty=0.7, min_new_tokens=6), PLAIN),
    Adjustments(
        logit_bias=((33, 4.0), (34, 2.5), (120, -3.0)),
        bad_words=((33, 34), (90,)),
        begin_suppress_tokens=(33,),
    ),
)
"""What requests of the suite ask for besides, in turn; those of every fourth are plain."""


def build_prompts(count: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Random prompts without special tokens; lengths repeat in order."""
    generator = torch.Generator().manual_seed(seed)
    lengths = islice(cycle(PROMPT_LENGTHS), count)
    return [random_ids(length, generator) for length in lengths]


def random_ids(length: int, generator: torch.Generator) -> tuple[int, ...]:
    """Ordinary tokens."""
    ids = torch.randint(NUM_SPECIAL_TOKENS, VOCAB_SIZE, (length,), generator=generator)
    return tuple(ids.tolist())


def build_requests(
    strategies: Sequence[Strategy],
    eos_token_ids: frozenset[int],
    *,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> list[GenerationRequest]:
    """One request a strategy, each with a prompt, a seed and, unless given, a length of its own."""
    prompts = build_prompts(len(strategies), seed=seed)
    lengths = cycle(MAX_NEW_TOKENS if max_new_tokens is None else (max_new_tokens,))
    return [
        GenerationRequest(
            request_id=f"{at}-{strategy.name}",
            prompt_ids=prompt_ids,
            strategy=strategy,
            max_new_tokens=length,
            seed=1000 * seed + at,
            eos_token_ids=eos_token_ids,
            adjustments=_fitting(ADJUSTMENTS[at % len(ADJUSTMENTS)], length),
        )
        for at, (strategy, prompt_ids, length) in enumerate(
            zip(strategies, prompts, lengths, strict=False)
        )
    ]


def _fitting(adjustments: Adjustments, max_new_tokens: int) -> Adjustments:
    return replace(adjustments, min_new_tokens=min(adjustments.min_new_tokens, max_new_tokens))


def find_end_tokens(model: PreTrainedModel, *, seed: int = 0) -> frozenset[int]:
    """Tokens to call end tokens: two that this model does generate, early and late."""
    early, late, *_ = build_requests([Greedy()] * 5, frozenset(), seed=seed)[::4]
    return frozenset(
        (
            generate_reference(model, early).token_ids[0][4],
            generate_reference(model, late).token_ids[0][9],
        )
    )
