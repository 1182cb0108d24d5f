"""What is asked: prompts and how long their answers may be. The same seed asks the same.

A mix is a length in tokens (`128`), a range (`16-64`, every length as likely), or several of either
with weights (`32:3,200-400:1`). Texts are made of short common words, about one token each; how
many tokens a server makes of them is what it reports.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_TOKENS = 1_000_000
# fmt: off
WORDS = (
    "the", "of", "and", "to", "in", "that", "was", "it", "for", "on", "with", "as", "his", "her",
    "at", "by", "from", "not", "but", "all", "had", "one", "they", "you", "were", "their", "so",
    "said", "what", "up", "out", "if", "about", "who", "into", "time", "some", "then", "two",
    "more", "very", "when", "do", "man", "day", "old", "any", "like", "good", "made", "come",
    "long", "great", "over", "way", "after", "down", "little", "world", "year", "back", "house",
    "work", "still", "hand", "place", "own", "part", "life", "never", "through", "water", "light",
    "sea", "ship", "harbour", "night", "morning",
)
# fmt: on


class InvalidLoad(ValueError):
    """The load that was asked for makes no sense; the message names the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """One request of the load."""

    text: str
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Mix:
    """Lengths to draw from: ranges with both ends, and how likely each is."""

    ranges: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]

    @classmethod
    def parse(cls, text: str, option: str) -> "Mix":
        """Read a mix as the command line gives it.

        Raises:
            InvalidLoad: it is not one.
        """
        try:
            parts = [part.split(":") for part in text.split(",")]
            ranges = tuple(_range(part[0]) for part in parts)
            weights = tuple(float(part[1]) if len(part) > 1 else 1.0 for part in parts)
            is_wrong = any(len(part) > 2 for part in parts) or not _are_weights(weights)
        except ValueError:
            is_wrong = True
        if is_wrong:
            raise InvalidLoad(
                f"{option} {text!r}: give a number of tokens from 1 to {MOST_TOKENS} (128), a "
                "range (16-64), or several with weights (32:3,200-400:1)."
            )
        return cls(ranges, weights)

    def draw(self, source: random.Random) -> int:
        """One length."""
        ((low, high),) = source.choices(self.ranges, self.weights)
        return source.randint(low, high)


def make_requests(
    count: int, *, prompt: Mix, answer: Mix, shared_prefix: int = 0, seed: int | str = 0
) -> list[PromptRequest]:
    """Requests whose prompts begin alike for `shared_prefix` words and differ from then on."""
    prefix = _words(random.Random(f"{seed} prefix"), shared_prefix)
    made = []
    for number in range(count):
        source = random.Random(f"{seed} {number}")
        words = [*prefix, *_words(source, prompt.draw(source))]
        text = " ".join(words).capitalize()
        made.append(PromptRequest(text=text, max_new_tokens=answer.draw(source)))
    return made


def read_requests(file: Path, *, count: int, answer: Mix, seed: int = 0) -> list[PromptRequest]:
    """Requests from a file of JSON lines; it begins again at its end.

    A line has `text`, and `max_new_tokens` where the mix is not to decide.

    Raises:
        InvalidLoad: it cannot be read, or a line is something else.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidLoad(f"--prompts {file}: cannot be read ({error}).") from error
    if not lines:
        raise InvalidLoad(f"--prompts {file}: holds no lines.")
    source = random.Random(seed)
    known = [_parse(line, at + 1, file) for at, line in enumerate(lines)]
    return [
        PromptRequest(text=text, max_new_tokens=limit or answer.draw(source))
        for text, limit in (known[number % len(known)] for number in range(count))
    ]


def _parse(line: str, number: int, file: Path) -> tuple[str, int | None]:
    try:
        content = json.loads(line)
        text, limit = content["text"], content.get("max_new_tokens")
        is_right = isinstance(text, str) and (limit is None or (type(limit) is int and limit > 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        is_right = False
    if not is_right:
        raise InvalidLoad(
            f'--prompts {file}, line {number}: give an object with "text" and, if you like, '
            '"max_new_tokens", a whole number above 0.'
        )
    return text, limit


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    ends = int(low), int(high or low)
    if not 1 <= ends[0] <= ends[1] <= MOST_TOKENS:
        raise ValueError(text)
    return ends


def _are_weights(weights: Sequence[float]) -> bool:
    return all(0 <= weight < float("inf") for weight in weights) and sum(weights) > 0


def _words(source: random.Random, count: int) -> list[str]:
    return source.choices(WORDS, k=count)
