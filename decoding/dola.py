"""The `dola` strategy: what the last layers of a model add counts more than what all of it says.

Chuang et al. 2023, arXiv:2309.03883, "decoding by contrasting layers", with the parameters of
`transformers`' `dola_layers`; the maths is in `decoding.processors.layer_contrast`. The likeliest
token by the contrast, or a draw. Its authors advise a `repetition_penalty` of 1.2.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen
from typing_extensions import Doc

from decoding.ask import Draw, MostLikely
from decoding.base import ModelDepth, Task
from decoding.errors import InvalidParameter
from decoding.independent import IndependentDecoder
from decoding.params import LayerContrast, NumSamples, Processing
from decoding.sampling import EveryFilter, processing_of

_DEEP = 40  # layers; a deeper model's candidates are among its first or last twenty
_NUM_OF_DEEP = 20

DolaLayers = Annotated[
    Literal["low", "high"] | Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)],
    Doc(
        "The layers to contrast the last one with, of which the furthest is taken: of the lower "
        "half (for long answers), of the upper half (for short facts), or these; 0 is the "
        "embedding."
    ),
]
DoSample = Annotated[bool, Doc("Draw a token; otherwise the one with the best contrast is taken.")]
RelativeTop = Annotated[
    float,
    Gt(0.0),
    Le(1.0),
    Doc("Only tokens with this share of the likeliest token's probability are plausible."),
]


@dataclass(frozen=True, kw_only=True)
class Dola(EveryFilter):
    """Contrast the last layer with an earlier one (DoLa); deterministic unless `do_sample`."""

    dola_layers: DolaLayers = "low"
    relative_top: RelativeTop = 0.1
    do_sample: DoSample = False
    num_return_sequences: NumSamples = 1

    name: ClassVar[str] = "dola"
    has_independent_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = self.dola_layers
        if not isinstance(layers, str) and len(set(layers)) < len(layers):
            raise InvalidParameter("dola_layers", "a layer is named twice; name each once")
        if self.do_sample:
            return
        if self.num_return_sequences > 1:
            raise InvalidParameter(
                "num_return_sequences", "there is one answer unless do_sample is true"
            )
        for field in fields(EveryFilter):
            if getattr(self, field.name) != field.default:
                raise InvalidParameter(
                    field.name, "nothing is drawn; set do_sample to true, or leave this out"
                )

    @property
    def is_deterministic(self) -> bool:
        """Unless tokens are drawn."""
        return not self.do_sample

    @property
    def num_rows(self) -> int:
        """One row a sample."""
        return self.num_return_sequences

    @property
    def num_results(self) -> int:
        """One sequence a sample."""
        return self.num_return_sequences

    def check_task(self, task: Task) -> None:
        """Say no to layers that the model does not have, and to runtimes that do not tell of any.

        Raises:
            InvalidParameter: with what to do.
        """
        self._contrast(task)

    def start(self, task: Task) -> IndependentDecoder:
        """Begin decoding one request.

        Raises:
            InvalidParameter: as `check_task`.
        """
        contrast = self._contrast(task)
        if not self.do_sample:
            return IndependentDecoder(ask=MostLikely(Processing(contrast=contrast)), task=task)
        processing = replace(processing_of(self), contrast=contrast)
        ask = Draw(processing, task.seed, self.num_return_sequences)
        return IndependentDecoder(ask=ask, task=task)

    def _contrast(self, task: Task) -> LayerContrast:
        if task.depth is None:
            raise InvalidParameter(
                "strategy",
                "dola looks into the layers of the model, of which this server's runtime does not "
                "tell; use another strategy",
            )
        layers = candidate_layers(self.dola_layers, task.depth)
        return LayerContrast(layers=layers, relative_top=self.relative_top)


def candidate_layers(asked: str | tuple[int, ...], depth: ModelDepth) -> tuple[int, ...]:
    """The layers to choose among, by the rules of `transformers`.

    Every second one of a half, or of twenty in deep models. Where the embedding's matrix gives the
    logits, the first layers say little but the token itself, so the lower half begins with the
    second.

    Raises:
        InvalidParameter: the model has no such layers.
    """
    last, half = depth.num_layers, depth.num_layers // 2
    is_deep = last > _DEEP
    if asked == "high":
        return tuple(range(last - _NUM_OF_DEEP if is_deep else half, last, 2))
    if asked == "low":
        first = min(2, last - 1) if depth.has_tied_embeddings else 0
        if first == half:
            return (first,)
        low = tuple(range(first, _NUM_OF_DEEP if is_deep else half, 2))
        if not low:
            raise InvalidParameter(
                "dola_layers", f"a model of {last} layers has none to spare below; use 'high'"
            )
        return low
    layers = tuple(layer for layer in asked if not isinstance(layer, str))
    if max(layers) >= last:
        raise InvalidParameter(
            "dola_layers",
            f"{max(layers)} is not below the last of this model's {last} layers; ask for earlier "
            "ones",
        )
    return layers
