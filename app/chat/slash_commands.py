"""What `/strategy beam num_beams=4` and its like do to a conversation.

`obey` changes the conversation, checks new fields with the partner first, and returns what to say.
What only the loop can do (ask again, leave) is told by an `Outcome`.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.bodies.named_fields import InvalidField, parse_fields
from app.chat.conversation import OWN_FIELDS, Conversation, with_strategy
from app.chat.partner import ChatFailed, Partner
from decoding.registry import DEFAULT_STRATEGY

HELP = """\
/strategy NAME [field=value ...]  answer with another strategy: /strategy beam num_beams=4
/set field=value ...              any other field of a request, quoted as in a shell:
                                  /set max_new_tokens=100 stop='["###", "END"]'
/unset field ...                  back to its default
/seed [N]                         the seed of draws; without N they are free again
/system [TEXT]                    what the model is told first; without TEXT nothing
/again                            answer the last question anew
/undo                             forget the last question and its answer
/reset                            forget the conversation; settings stay
/status                           what is set, and how long the conversation is
/help                             this
/quit                             leave, as Ctrl-D does
A line that ends with \\ goes on in the next one; a message that begins with / is written //.
Ctrl-C stops an answer; what came of it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command leads to."""

    words: str = ""  # to say
    question: str | None = None  # to ask
    is_over: bool = False


class SlashCommands:
    """The commands over one conversation, which it changes."""

    def __init__(self, conversation: Conversation, partner: Partner) -> None:
        self._conversation = conversation
        self._partner = partner
        self._commands: Mapping[str, Callable[[str], Outcome]] = {
            "strategy": self._strategy,
            "set": self._set,
            "unset": self._unset,
            "seed": self._seed,
            "system": self._system,
            "again": self._again,
            "undo": self._undo,
            "reset": self._reset,
            "status": self._status,
            "help": lambda _: Outcome(words=HELP),
            "quit": lambda _: Outcome(is_over=True),
            "exit": lambda _: Outcome(is_over=True),
        }

    def obey(self, line: str) -> Outcome:
        """Do what a line that begins with / says.

        Raises:
            ChatFailed: there is no such command, or it cannot be done; nothing has changed.
        """
        name, _, rest = line.removeprefix("/").partition(" ")
        command = self._commands.get(name.strip())
        if command is None:
            names = ", ".join(f"/{known}" for known in self._commands)
            raise ChatFailed(f"there is no /{name.strip()}; there are: {names}")
        return command(rest.strip())

    def _strategy(self, rest: str) -> Outcome:
        if not rest:
            return self._status(rest)
        name, *pairs = _words(rest)
        self._use(with_strategy(self._conversation.fields, name, _fields(pairs)))
        return self._status("")

    def _set(self, rest: str) -> Outcome:
        fields = _fields(_words(rest))
        if not fields:
            raise ChatFailed("write field=value, such as temperature=0.7")
        self._use({**self._conversation.fields, **fields})
        return self._status("")

    def _unset(self, rest: str) -> Outcome:
        names = [name.replace("-", "_") for name in _words(rest)]
        missing = [name for name in names if name not in self._conversation.fields]
        if missing or not names:
            is_set = ", ".join(self._conversation.fields) or "nothing"
            raise ChatFailed(f"not set: {', '.join(missing) or 'name a field'}; set is: {is_set}")
        kept = {n: value for n, value in self._conversation.fields.items() if n not in names}
        self._use(kept)
        return self._status("")

    def _seed(self, rest: str) -> Outcome:
        if not rest:
            self._conversation.fields.pop("seed", None)
            return Outcome(words="draws are free")
        self._use({**self._conversation.fields, **_fields([f"seed={rest}"])})
        return Outcome(words=f"seed {rest}")

    def _system(self, rest: str) -> Outcome:
        self._conversation.system = rest or None
        return Outcome(words="the model is told so first" if rest else "no system message")

    def _again(self, _rest: str) -> Outcome:
        return Outcome(question=self._take_back())

    def _undo(self, _rest: str) -> Outcome:
        self._take_back()
        return Outcome(words="the last question and its answer are forgotten")

    def _take_back(self) -> str:
        question = self._conversation.take_back_question()
        if question is None:
            raise ChatFailed("nothing was asked yet")
        return question

    def _reset(self, _rest: str) -> Outcome:
        self._conversation.turns.clear()
        return Outcome(words="the conversation begins anew")

    def _status(self, _rest: str) -> Outcome:
        conversation = self._conversation
        fields = {"strategy": DEFAULT_STRATEGY, **conversation.fields}
        settings = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
        system = "" if conversation.system is None else f"; system: {conversation.system}"
        return Outcome(words=f"{settings}; {len(conversation.turns)} messages{system}")

    def _use(self, fields: dict[str, object]) -> None:
        taken = sorted(OWN_FIELDS & fields.keys())
        if taken:
            raise ChatFailed(f"{taken[0]}: the conversation fills it; leave it out")
        self._partner.check(fields)
        self._conversation.fields = fields


def _words(text: str) -> list[str]:
    """The words of a line, quoted as in a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ChatFailed(f"a quotation mark is left open in: {text}") from error


def _fields(pairs: list[str]) -> dict[str, object]:
    try:
        return parse_fields(pairs)
    except InvalidField as error:
        raise ChatFailed(str(error)) from error


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
