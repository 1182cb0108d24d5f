"""What every plain sampling strategy shares: a subclass only names its parameters.

`sample`, `top_k`, `top_p` and their like are presets of the same draw; their fields carry the names
of `Processing`, and whatever a subclass leaves out keeps the value that does nothing.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from decoding.ask import Draw
from decoding.base import Task
from decoding.errors import InvalidParameter
from decoding.independent import IndependentDecoder
from decoding.params import (
    DynamicExponent,
    DynamicRange,
    EpsilonCutoff,
    EtaCutoff,
    MinP,
    NumSamples,
    Processing,
    Samplers,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
    XtcProbability,
    XtcThreshold,
)

PROCESSING_FIELDS = frozenset(field.name for field in fields(Processing))
_SAMPLER_OF = {  # where it is not called as its parameter is
    "dynatemp_range": "temperature",
    "dynatemp_exponent": "temperature",
    "xtc_probability": "xtc",
    "xtc_threshold": "xtc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingStrategy:
    """Random draws, `num_return_sequences` of them side by side."""

    num_return_sequences: NumSamples = 1

    is_deterministic: ClassVar[bool] = False
    has_independent_rows: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        """One row a sample."""
        return self.num_return_sequences

    @property
    def num_results(self) -> int:
        """One sequence a sample."""
        return self.num_return_sequences

    def start(self, task: Task) -> IndependentDecoder:
        """Begin decoding one request."""
        ask = Draw(processing_of(self), task.seed, self.num_return_sequences)
        return IndependentDecoder(ask=ask, task=task)


@dataclass(frozen=True, kw_only=True)
class EveryFilter:
    """The whole family of filters, for strategies that draw from any combination of them.

    Without slots, so that a strategy can inherit it beside another base.
    """

    temperature: Temperature = 1.0
    dynatemp_range: DynamicRange = 0.0
    dynatemp_exponent: DynamicExponent = 1.0
    top_n_sigma: TopNSigma = 0.0
    top_h: TopH = 1.0
    top_k: TopK = 50
    top_p: TopP = 0.95
    min_p: MinP = 0.0
    typical_p: TypicalP = 1.0
    epsilon_cutoff: EpsilonCutoff = 0.0
    eta_cutoff: EtaCutoff = 0.0
    xtc_probability: XtcProbability = 0.0
    xtc_threshold: XtcThreshold = 0.1
    samplers: Samplers = None

    def __post_init__(self) -> None:
        if self.samplers is None:
            return
        if len(set(self.samplers)) < len(self.samplers):
            raise InvalidParameter("samplers", "a filter is named twice; name each once")
        for field in fields(EveryFilter):
            sampler = _SAMPLER_OF.get(field.name, field.name)
            is_asked = getattr(self, field.name) != field.default
            if is_asked and sampler not in (*self.samplers, "samplers"):
                raise InvalidParameter(
                    field.name, f"samplers does not name {sampler!r}; add it, or leave this out"
                )


def processing_of(strategy: Any) -> Processing:  # noqa: ANN401  any dataclass with such fields
    """What a strategy's fields ask of the scores: those that `Processing` has, too."""
    asked = {field.name: getattr(strategy, field.name) for field in fields(strategy)}
    return Processing(**{name: asked[name] for name in asked if name in PROCESSING_FIELDS})
