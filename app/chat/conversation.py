"""What was said and how answers are asked for: the state of `beamline chat`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.bodies.body_parser import SHARED_FIELDS

OWN_FIELDS = frozenset({"text", "messages", "return_full_text"})  # the conversation's to fill

Fields = Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Conversation:
    """Turns, newest last, and the request's other fields. The chat loop writes it."""

    fields: dict[str, object]
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    @property
    def body(self) -> dict[str, object]:
        """The request for the next answer, as POST /generate takes it."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return {**self.fields, "messages": [*system, *self.turns]}

    def ask(self, text: str) -> None:
        """The user says something."""
        self.turns.append({"role": "user", "content": text})

    def answer(self, text: str) -> None:
        """The model has said something."""
        self.turns.append({"role": "assistant", "content": text})

    def take_back_question(self) -> str | None:
        """Forget the user's last turn and what follows it; its text, or None if there is none."""
        for at in reversed(range(len(self.turns))):
            if self.turns[at]["role"] == "user":
                text = self.turns[at]["content"]
                del self.turns[at:]
                return text
        return None


def with_strategy(fields: Fields, name: str, parameters: Fields) -> dict[str, object]:
    """Fields with another strategy: its parameters, and of the others those that all have."""
    kept = {name: value for name, value in fields.items() if name in SHARED_FIELDS}
    return {**kept, "strategy": name, **parameters}
