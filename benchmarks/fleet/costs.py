"""What a step of a replica's batch takes. Measured by `real.py`, used by `simulation.py`."""

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class InvalidCosts(ValueError):
    """A file of costs is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Seconds of a step: of its sequences, and more for each prompt token read in it.

    Between measured numbers of sequences it is a straight line, and beyond the last the line of
    the last two goes on.
    """

    decode_seconds: Mapping[int, float]  # by the number of sequences
    prompt_token_seconds: float
    source: str = ""  # where and how it was measured

    def step_seconds(self, num_sequences: int, num_prompt_tokens: int) -> float:
        """How long a step takes."""
        return self._decode(num_sequences) + self.prompt_token_seconds * num_prompt_tokens

    def _decode(self, num_sequences: int) -> float:
        known = sorted(self.decode_seconds)
        number = max(num_sequences, known[0])  # a step costs itself, even if it only reads prompts
        if len(known) == 1:
            return self.decode_seconds[known[0]]
        at = min(max(bisect_left(known, number), 1), len(known) - 1)
        low, high = known[at - 1], known[at]
        first, second = self.decode_seconds[low], self.decode_seconds[high]
        slope = max((second - first) / (high - low), 0.0)
        return first + slope * (number - low)

    def mean_with(self, other: "StepCosts") -> "StepCosts":
        """Halfway to others, for the numbers of sequences that both know."""
        common = sorted(self.decode_seconds.keys() & other.decode_seconds.keys())
        return StepCosts(
            decode_seconds={
                number: (self.decode_seconds[number] + other.decode_seconds[number]) / 2
                for number in common
            },
            prompt_token_seconds=(self.prompt_token_seconds + other.prompt_token_seconds) / 2,
            source=self.source,
        )

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        content = {
            "decode_seconds": dict(self.decode_seconds),
            "prompt_token_seconds": self.prompt_token_seconds,
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
            by_number = {int(name): float(t) for name, t in content["decode_seconds"].items()}
            token = float(content["prompt_token_seconds"])
            source = str(content.get("source", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidCosts(f"{file}: not costs as `measure` writes them ({error})") from error
        if not by_number or min(by_number) < 1 or min(by_number.values()) <= 0 or token < 0:
            raise InvalidCosts(f"{file}: seconds must be above 0, for 1 sequence and more")
        return cls(decode_seconds=by_number, prompt_token_seconds=token, source=source)
