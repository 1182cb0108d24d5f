"""The parameters that strategies share, as annotated types, and what they ask of a row.

Each alias carries its bounds and its description, so the `/generate` schema, its documentation
and its errors come from here. No torch: scheduling code and schemas import this file.
Names, defaults and meaning follow `transformers.GenerationConfig`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

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
TypicalP = Annotated[
    float,
    Gt(0.0),
    Le(1.0),
    Doc("Keep the tokens closest to the expected surprise whose probabilities reach this sum."),
]
EpsilonCutoff = Annotated[
    float, Ge(0.0), Le(0.999), Doc("Drop tokens whose probability is below this; 0 keeps them all.")
]
EtaCutoff = Annotated[
    float,
    Ge(0.0),
    Le(0.999),
    Doc("Drop tokens below this probability, less where the model is unsure; 0 keeps them all."),
]
TopH = Annotated[
    float,
    Gt(0.0),
    Le(1.0),
    Doc("Keep the best tokens that together hold this share of the entropy; 1 keeps them all."),
]
TopNSigma = Annotated[
    float,
    Ge(0.0),
    Le(100.0),
    Doc("Keep logits within so many standard deviations of the largest; 0 keeps them all."),
]
DynamicRange = Annotated[
    float,
    Ge(0.0),
    Le(100.0),
    Doc("The temperature moves by up to this, down where the model is sure, up where it is not."),
]
DynamicExponent = Annotated[
    float,
    Ge(0.01),
    Le(100.0),
    Doc("Shapes how the temperature follows the entropy: the entropy's share to this power."),
]
XtcProbability = Annotated[
    float, Ge(0.0), Le(1.0), Doc("How often, step by step, the top choices are excluded; 0: never.")
]
XtcThreshold = Annotated[
    float,
    Gt(0.0),
    Le(1.0),
    Doc(
        "All tokens at least so likely are top choices, and all but the least likely are excluded."
    ),
]
SamplerName = Literal[
    "temperature",
    "top_n_sigma",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "xtc",
]
SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
Samplers = Annotated[
    tuple[SamplerName, ...] | None,
    Doc("The filters to run, in this order; by default all that are asked for, in the usual one."),
]
NumSamples = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many independent samples to return.")
]
OnlyOneFound = Annotated[
    Literal[1],
    Doc("Contrastive search has one answer; for several use beam or sample."),
    Remedy("Contrastive search has one answer; for several use strategy beam or sample."),
]
OnlyOne = Annotated[
    Literal[1],
    Doc("Greedy decoding has one answer; for several use beam or sample."),
    Remedy("Greedy decoding has one answer; for several use strategy beam or sample."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContrast:
    """Score tokens by how much the last layers have raised them above what an earlier one says.

    Which of `layers` that is, is found out row by row, see `decoding.processors.layer_contrast`.

    Raises:
        ValueError: a value that the maths cannot work with.
    """

    layers: tuple[int, ...]  # by how many layers the model has run through; 0: it has just embedded
    relative_top: float  # of the best token's probability: tokens below this share are dropped

    def __post_init__(self) -> None:
        if not self.layers or not all(type(layer) is int and layer >= 0 for layer in self.layers):
            raise ValueError("layers must be numbers, at least one, and none below 0")
        if not 0 < self.relative_top <= 1:
            raise ValueError("relative_top must be in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """What the shared maths does to a row's scores for its strategy; defaults do nothing.

    Applied in the order of the fields, which extends that of `transformers`, unless `samplers`
    gives another. What every request may ask for besides is in `decoding.adjustments`; that comes
    before all but the contrast.

    Raises:
        ValueError: a value that the maths cannot work with.
    """

    contrast: LayerContrast | None = None
    temperature: float = 1.0
    dynatemp_range: float = 0.0  # part of `temperature`, as the exponent is
    dynatemp_exponent: float = 1.0
    top_n_sigma: float = 0.0
    top_h: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: Literal[0, 1, 2] = 0
    mirostat_mu: float = 0.0  # the most surprise that is let pass, in bits
    samplers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.top_k >= 0):
            raise ValueError("temperature must be above 0 and top_k at least 0")
        for name in ("top_p", "top_h", "typical_p", "xtc_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1]")
        for name in ("min_p", "epsilon_cutoff", "eta_cutoff", "xtc_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]")
        if not (self.dynatemp_range >= 0 and self.dynatemp_exponent > 0 and self.top_n_sigma >= 0):
            raise ValueError("dynatemp_range and top_n_sigma must not be negative")
        unknown = set(self.samplers or ()) - set(SAMPLER_NAMES)
        if unknown:
            raise ValueError(f"there is no sampler {sorted(unknown)[0]!r}")
