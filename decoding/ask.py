"""What a decoder asks of its rows: the most likely token, a draw, or the best few.

Decoders make asks, `chooser` answers all of a kind at once, the engine passes them on. They hold
what is done to the scores before (`params.Processing`) and know no row, no model and no tensor.
"""

from dataclasses import dataclass

from decoding.params import Processing


@dataclass(frozen=True, slots=True)
class MostLikely:
    """Ask for the most likely token of each row."""

    processing: Processing

    def __post_init__(self) -> None:
        _check_ask(self.processing)


@dataclass(frozen=True, slots=True)
class Draw:
    """Ask for `count` random tokens a row, drawn by (seed, sequence index, position).

    Draw `i` of a row counts as sequence `row.index + i`: that is how a prompt's single row forks.
    """

    processing: Processing
    seed: int
    count: int = 1

    def __post_init__(self) -> None:
        _check_ask(self.processing, self.count)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; it must be in [0, 2**64)")


@dataclass(frozen=True, slots=True)
class DrawDistinct:
    """Ask for `count` different random tokens a row, in the order in which they were drawn.

    They are drawn without replacement from exp(score), by (seed, row index, position), with the
    Gumbel-top-k trick (Kool et al. 2019, arXiv:1903.06059): the tokens with the largest sums of
    score and noise. Such sums may be compared between rows, also after adding a row's own score:
    that is a draw from all rows together. Fewer come where processing leaves fewer.
    """

    processing: Processing
    seed: int
    count: int

    def __post_init__(self) -> None:
        _check_ask(self.processing, self.count)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; it must be in [0, 2**64)")


@dataclass(frozen=True, slots=True)
class Best:
    """Ask for the `count` best tokens of each row by processed log-probability, best first.

    Log-probabilities are processed as they are, to be added up and compared between rows; where
    `is_share` is true scores are those of a draw: logits are processed, and what is left sums to 1.

    The tokens `also` are looked up besides, and come after them in the order given, whether or not
    they are among the best.
    """

    processing: Processing
    count: int
    also: tuple[int, ...] = ()
    is_share: bool = False

    def __post_init__(self) -> None:
        _check_ask(self.processing, self.count)


Ask = MostLikely | Draw | DrawDistinct | Best
Asks = Ask | tuple[Ask, ...]
"""What a decoder asks: the same of all its rows, or of each row something else, in their order."""


def _check_ask(processing: Processing, count: int = 1) -> None:
    """Asks of plugins are checked here, before the shared maths would fail for the whole batch."""
    if not isinstance(processing, Processing):
        raise TypeError(f"processing is {processing!r}, not a Processing")
    if count < 1:
        raise ValueError(f"count is {count}; a row gives at least one candidate")
