"""What came back of a load: a record for each request, and what they come to."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 99)


@dataclass(slots=True, kw_only=True)
class Record:
    """One request. Times are in seconds since the load began."""

    started_at: float
    ended_at: float = math.nan
    token_times: list[float] = field(default_factory=list)  # one for each new token
    num_prompt_tokens: int | None = None
    num_new_tokens: int = 0
    text: str = ""
    error: str | None = None

    @property
    def time_to_first_token(self) -> float:
        """Seconds from sending it to its first token."""
        return self.token_times[0] - self.started_at

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens; tokens that came in one event share the time since the last."""
        times = self.token_times
        gaps: list[float] = []
        last, at = 0, 0
        for at in range(1, len(times)):
            if times[at] != times[last]:
                gaps += [(times[at] - times[last]) / (at - last)] * (at - last)
                last = at
        return gaps + [0.0] * (at - last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Of some seconds."""

    mean: float
    percentiles: dict[int, float]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Distribution | None":
        """None of nothing."""
        if not seconds:
            return None
        ranked = sorted(seconds)
        places = {p: max(math.ceil(p / 100 * len(ranked)), 1) - 1 for p in PERCENTILES}
        return cls(
            mean=sum(ranked) / len(ranked),
            percentiles={p: ranked[place] for p, place in places.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """A load and what came of it. Failed requests are counted, and count for nothing else."""

    records: Sequence[Record]
    seconds: float  # from the first request to the last answer

    @property
    def answered(self) -> list[Record]:
        """Requests that were answered to the end."""
        return [record for record in self.records if record.error is None]

    @property
    def errors(self) -> Counter[str]:
        """How often each error came."""
        return Counter(record.error for record in self.records if record.error is not None)

    @property
    def output_tokens_per_second(self) -> float:
        """New tokens of all answers over the whole time."""
        return sum(record.num_new_tokens for record in self.answered) / self.seconds

    @property
    def prompt_tokens_per_second(self) -> float:
        """Prompt tokens of all answers over the whole time."""
        return sum(record.num_prompt_tokens or 0 for record in self.answered) / self.seconds

    @property
    def requests_per_second(self) -> float:
        """Answers over the whole time."""
        return len(self.answered) / self.seconds

    @property
    def time_to_first_token(self) -> Distribution | None:
        """Seconds from sending a request to its first token."""
        return Distribution.of([r.time_to_first_token for r in self.answered if r.token_times])

    @property
    def inter_token(self) -> Distribution | None:
        """Seconds between the tokens of an answer."""
        return Distribution.of([gap for record in self.answered for gap in record.gaps])

    @property
    def end_to_end(self) -> Distribution | None:
        """Seconds from sending a request to the end of its answer."""
        return Distribution.of([r.ended_at - r.started_at for r in self.answered])
