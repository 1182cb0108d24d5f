"""Requests at random moments: how long they are, and what they begin with."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of the load."""

    at: float  # seconds since it began
    prompt_tokens: int
    new_tokens: int
    prefix: int | None = None  # which beginning it shares with others
    prefix_tokens: int = 0  # how long that is, of the prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonLoad:
    """Requests that come independently of each other, `rate` a second on average.

    Lengths are drawn evenly between both ends, or exponentially around the middle if
    `is_exponential`: answers that end by themselves look like that.
    """

    rate: float
    seconds: float
    prompt_tokens: tuple[int, int] = (32, 32)
    new_tokens: tuple[int, int] = (64, 64)
    is_exponential: bool = False
    num_prefixes: int = 0  # beginnings that are drawn from, evenly; 0: none is shared
    prefix_tokens: int = 0

    def arrivals(self, seed: int) -> Iterator[Arrival]:
        """The requests in order."""
        source, at = random.Random(seed), 0.0
        while (at := at + source.expovariate(self.rate)) < self.seconds:
            yield Arrival(
                at=at,
                prompt_tokens=source.randint(*self.prompt_tokens) + self.prefix_tokens,
                new_tokens=self._answer(source),
                prefix=source.randrange(self.num_prefixes) if self.num_prefixes else None,
                prefix_tokens=self.prefix_tokens,
            )

    def _answer(self, source: random.Random) -> int:
        if not self.is_exponential:
            return source.randint(*self.new_tokens)
        return max(round(source.expovariate(2.0 / sum(self.new_tokens))), 1)
