"""A typed question as a prompt: its options behind labels of one token each, and the way back.

`app/generation/judge.py` asks the model which label comes next. Nothing here knows of the model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from string import ascii_uppercase
from typing import Any

YES_NO = ("Yes", "No")


class QuestionKind(StrEnum):
    """The ways to answer, by their names on the wire."""

    NOUL = "noul"  # yes or no
    CHOICE = "choice"
    SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedQuestion:
    """One question: what is asked, and the options in order, each with what it means."""

    kind: QuestionKind
    instructions: Any
    options: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model is to answer with: a label for each option."""
        return YES_NO if self.kind is QuestionKind.NOUL else tuple(ascii_uppercase)[: self._count]

    def prompt(self, state: Any) -> str:  # noqa: ANN401  any JSON
        """The state, the question, the labelled options, and how to answer."""
        lines = [_text(self.instructions), *map(self._line, self.labels, self.options)]
        question = "\n".join(line for line in lines if line)
        return f"{_text(state)}\n\n{question}\n{self._how_to_answer()}"

    def answer(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """The answer on the wire, of the options' probabilities, which sum to 1."""
        by_option = dict(zip(self.options, probabilities, strict=True))
        if self.kind is QuestionKind.NOUL:
            return {"noul": by_option["true"]}
        best = max(by_option, key=by_option.__getitem__)
        if self.kind is QuestionKind.CHOICE:
            chance = 1 / self._count
            confidence = (by_option[best] - chance) / (1 - chance) if self._count > 1 else 1.0
            return {
                "choice": best,
                "confidence": max(0.0, confidence),
                "probabilities": by_option,
            }
        return {
            "score": sum(level * p for level, p in enumerate(probabilities)),
            "legend": dict(self.options),
            "confidence": self._closeness(probabilities, int(best)),
            "probabilities": by_option,
        }

    @property
    def _count(self) -> int:
        return len(self.options)

    def _line(self, label: str, option: str) -> str:
        meaning = _text(self.options[option])
        if self.kind is QuestionKind.NOUL:
            return f"{label} means: {meaning}" if meaning else ""
        if self.kind is QuestionKind.SCORE:
            return f"{label}) {meaning}"
        return f"{label}) {option} - {meaning}" if meaning else f"{label}) {option}"

    def _how_to_answer(self) -> str:
        if self.kind is QuestionKind.NOUL:
            return "Reply with one word, Yes or No."
        return f"Reply with one letter, {self.labels[0]} to {self.labels[-1]}."

    def _closeness(self, probabilities: Sequence[float], best: int) -> float:
        """How near to the best level the others lie: 1 at it, 0 if no nearer than chance."""
        if self._count == 1:
            return 1.0
        middle = (self._count - 1) / 2
        distance = sum(p * abs(level - best) for level, p in enumerate(probabilities))
        by_chance = sum(abs(level - middle) for level in range(self._count)) / self._count
        return max(0.0, 1 - distance / by_chance)


def _text(content: Any) -> str:  # noqa: ANN401  any JSON
    if content is None:
        return ""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
