"""Reads calls out of a text that grows: what is said, what is called, the arguments as they come.

One definition for streams and whole answers. The text follows the grammar of `grammar.py`, though
it may end anywhere; nothing here has to guess. Called on the event loop, a reader a sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from app.text.tools.formats import CallFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Text that is for people."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A call begins, or goes on with more of its arguments."""

    index: int
    name: str | None  # of a call that begins here
    arguments: str


Piece = Said | Called


class _At(Enum):
    """Where in the text the reader stands."""

    START = auto()  # it may be calls or text
    TEXT = auto()  # calls may follow
    PLAIN = auto()  # nothing but text to the end
    BETWEEN = auto()  # before the next name
    NAME = auto()
    ARGUMENTS = auto()


class CallReader:
    """Reads one sequence's text. `can_say_first`: calls may come after text that is for people."""

    def __init__(self, form: CallFormat, *, can_say_first: bool) -> None:
        self._form = form
        self._at = _At.TEXT if can_say_first and form.trigger else _At.START
        self._rest = ""  # what came and is not understood yet
        self._arguments = _ObjectEnd()
        self._steps: dict[_At, Callable[[], list[Piece]]] = {
            _At.START: self._start,
            _At.TEXT: self._text,
            _At.PLAIN: self._plain,
            _At.BETWEEN: self._between,
            _At.NAME: self._name,
            _At.ARGUMENTS: self._go_on,
        }
        self.num_calls = 0  # that have begun

    def push(self, text: str) -> list[Piece]:
        """What became certain with this text."""
        self._rest += text
        pieces: list[Piece] = []
        before = None
        while before is not self._at:
            before = self._at
            pieces += self._steps[before]()
        return pieces

    def finish(self) -> list[Piece]:
        """What was held back, now that the text has ended."""
        return self._take(len(self._rest)) if self._at is _At.TEXT else []

    def _take(self, count: int) -> list[Piece]:
        said, self._rest = self._rest[:count], self._rest[count:]
        return [Said(text=said)] if said else []

    def _start(self) -> list[Piece]:
        head = self._form.first_head
        if self._rest.startswith(head):
            self._at = _At.BETWEEN
        elif not head.startswith(self._rest):
            self._at = _At.PLAIN
        return []

    def _text(self) -> list[Piece]:
        """Space before a call is no part of what is said, so it waits for what comes after it."""
        trigger = self._form.trigger
        start = self._rest.find(trigger)
        if start >= 0:
            self._at = _At.BETWEEN
            return self._take(len(self._rest[:start].rstrip()))
        certain = self._rest[: len(self._rest) - _overlap(self._rest, trigger)].rstrip()
        return self._take(len(certain))

    def _plain(self) -> list[Piece]:
        return self._take(len(self._rest))

    def _between(self) -> list[Piece]:
        _, found, rest = self._rest.partition(self._form.before_name)
        if found:
            self._rest, self._at = rest, _At.NAME
        return []

    def _name(self) -> list[Piece]:
        name, found, rest = self._rest.partition(self._form.before_arguments)
        if not found:
            return []
        self._rest, self._at, self._arguments = rest, _At.ARGUMENTS, _ObjectEnd()
        self.num_calls += 1
        return [Called(index=self.num_calls - 1, name=name, arguments="")]

    def _go_on(self) -> list[Piece]:
        end = self._arguments.find(self._rest)
        arguments = self._rest if end is None else self._rest[:end]
        self._rest = self._rest[len(arguments) :]
        if end is not None:
            self._at = _At.BETWEEN
        if not arguments:
            return []
        return [Called(index=self.num_calls - 1, name=None, arguments=arguments)]


class _ObjectEnd:
    """Finds where a JSON object ends that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def find(self, piece: str) -> int | None:
        """How much of the next piece belongs to the object, if it ends there."""
        for at, character in enumerate(piece):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_in_string:
                self._is_escaped = character == "\\"
                self._is_in_string = character != '"'
            elif character == '"':
                self._is_in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return None


def _overlap(text: str, marker: str) -> int:
    """The length of the longest end of `text` that begins `marker` without completing it."""
    sizes = range(min(len(text), len(marker) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(marker[:size])), 0)
