"""What a step of a replica's batch takes. Measured by `real.py`, used by `simulation.py`."""

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path


class InvalidCosts(ValueError):
    """A file of costs is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Seconds of a step: of its sequences, and more for the prompt tokens read in it.

    Between measured numbers it is a straight line, and beyond the last the line of the last two
    goes on. Prompt tokens are not all alike: a longer prompt costs more for each of its tokens.
    """

    decode_seconds: Mapping[int, float]  # by the number of sequences
    prompt_seconds: Mapping[int, float]  # by the number of prompt tokens; none take none
    source: str = ""  # where and how it was measured

    def step_seconds(self, num_sequences: int, num_prompt_tokens: int) -> float:
        """How long a step takes."""
        least = min(self.decode_seconds)  # a step costs itself, even if it only reads prompts
        decode = _on_line(self.decode_seconds, max(num_sequences, least))
        return decode + _on_line({0: 0.0, **self.prompt_seconds}, num_prompt_tokens)

    def mean_with(self, other: "StepCosts") -> "StepCosts":
        """Halfway to others, for the numbers that both know."""
        return StepCosts(
            decode_seconds=_means(self.decode_seconds, other.decode_seconds),
            prompt_seconds=_means(self.prompt_seconds, other.prompt_seconds),
            source=self.source,
        )

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        content = {
            "decode_seconds": dict(self.decode_seconds),
            "prompt_seconds": dict(self.prompt_seconds),
            "source": self.source,
        }
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> "StepCosts":
        """Read what `save` wrote.

        Raises:
            InvalidCosts: it cannot be read, or is something else.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            decode = {int(number): float(t) for number, t in content["decode_seconds"].items()}
            prompt = {int(number): float(t) for number, t in content["prompt_seconds"].items()}
            source = str(content.get("source", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidCosts(f"{file}: not costs as `measure` writes them ({error})") from error
        if not (_are_costs(decode) and _are_costs(prompt)) or min(decode.values()) == 0:
            raise InvalidCosts(
                f"{file}: seconds are numbers from 0 on (of a step: above 0), for 1 sequence or "
                "prompt token and more"
            )
        return cls(decode_seconds=decode, prompt_seconds=prompt, source=source)


def _on_line(seconds: Mapping[int, float], number: int) -> float:
    known = sorted(seconds)
    if len(known) == 1:
        return seconds[known[0]]
    at = min(max(bisect_left(known, number), 1), len(known) - 1)
    low, high = known[at - 1], known[at]
    slope = max((seconds[high] - seconds[low]) / (high - low), 0.0)
    return seconds[low] + slope * (number - low)


def _means(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    return {
        number: (first[number] + second[number]) / 2
        for number in sorted(first.keys() & second.keys())
    }


def _are_costs(seconds: Mapping[int, float]) -> bool:
    return bool(seconds) and min(seconds) >= 1 and all(0 <= t < inf for t in seconds.values())
