"""The parameters that strategies share, as annotated types, and what they ask of a row.

Each alias carries its bounds and its description, so the `/generate` schema, its documentation
and its errors come from here. No torch: scheduling code and schemas import this file.
Names, defaults and meaning follow `transformers.GenerationConfig`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

MAX_SEQUENCES = 256  # the most rows one request may ask for; the engine's own limit may be lower


@dataclass(frozen=True, slots=True)
class Remedy:
    """Among a parameter's bounds: what to do who wants a value below them, or beside a literal."""

    text: str


Temperature = Annotated[
    float,
    Ge(0.01),
    Le(100.0),
    Doc("Divides the logits: below 1 sharpens, above 1 flattens. For no randomness use greedy."),
    Remedy("For no randomness use strategy greedy."),
]
TopK = Annotated[
    int, Ge(0), Le(1_000_000), Doc("Keep only the k most likely tokens; 0 keeps them all.")
]
TopP = Annotated[
    float,
    Gt(0.0),
    Le(1.0),
    Doc("Keep the smallest set of most likely tokens whose probabilities reach this sum."),
]
MinP = Annotated[
    float,
    Ge(0.0),
    Le(1.0),
    Doc("Drop tokens less likely than this share of the most likely token's probability."),
]
RepetitionPenalty = Annotated[
    float,
    Ge(0.01),
    Le(100.0),
    Doc("Above 1 makes tokens of the prompt and the text so far less likely; 1 changes nothing."),
]
NumSamples = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many independent samples to return.")
]
OnlyOne = Annotated[
    Literal[1],
    Doc("Greedy decoding has one answer; for several use beam or sample."),
    Remedy("Greedy decoding has one answer; for several use strategy beam or sample."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """What the shared maths does to a row's scores before a token is taken; defaults do nothing.

    Applied in the order of the fields, which is the order of `transformers`.

    Raises:
        ValueError: a value that the maths cannot work with.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not (self.repetition_penalty > 0 and self.temperature > 0 and self.top_k >= 0):
            raise ValueError("repetition_penalty and temperature must be above 0, top_k at least 0")
        if not (0 < self.top_p <= 1 and 0 <= self.min_p <= 1):
            raise ValueError("top_p must be in (0, 1] and min_p in [0, 1]")
