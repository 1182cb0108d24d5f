"""The load of the throughput benchmark: many requests, every strategy, no two the same.

Plain data, so that the engine in process and a server over HTTP get the same requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

OPENINGS = (
    "The lighthouse keeper climbed the stairs one last time and",
    "To bake good bread you need flour, water, salt, and above all",
    "In the year 1850 the railway came to the valley, and with it",
    "A list of things to remember before a long journey:",
    "The difference between weather and climate is that",
    "Dear Professor, thank you for your letter. I have read your proof and",
    "Water boils at a lower temperature on a mountain because",
    "Once upon a time there was a clockmaker who",
    "The committee met on Tuesday to decide whether the old bridge, which had stood for two "
    "hundred years and carried horses, carts and at last motor cars, should be repaired or",
    "Python is a programming language that",
    "She opened the letter slowly. Inside was",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedRequest:
    """A prompt, and how to continue it. `parameters` go by their names in the API."""

    text: str
    strategy: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    max_new_tokens: int
    seed: int

    def __str__(self) -> str:
        return f"{self.strategy} {dict(self.parameters)} after {self.text[:30]!r}"


WAYS: Sequence[tuple[str, Mapping[str, object]]] = (
    ("sample", {}),
    ("greedy", {}),
    ("top_k", {"top_k": 20, "temperature": 0.8}),
    ("beam", {"num_beams": 2}),
    ("top_p", {"top_p": 0.9}),
    ("greedy", {"repetition_penalty": 1.2}),
    ("sample", {"temperature": 0.7, "min_p": 0.05, "num_return_sequences": 2}),
    ("beam", {"num_beams": 4, "length_penalty": 0.6, "num_return_sequences": 2}),
)


def build_mixed_requests(count: int, *, max_new_tokens: int) -> list[MixedRequest]:
    """The first `count` requests; 88 are different in prompt and way, later ones in seed too."""
    pairs = zip(cycle(OPENINGS), cycle(WAYS), strict=False)  # 11 and 8 share no factor
    return [
        MixedRequest(
            text=text,
            strategy=strategy,
            parameters=parameters,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        for seed, (text, (strategy, parameters)) in enumerate(islice(pairs, count))
    ]
