"""The user's side of a chat: reads what is typed, shows what is answered.

Line editing and the history of what was typed are readline's, kept for this run only. Control
characters in an answer are shown, not obeyed. Reading from a pipe, nothing but answers is shown.
"""

import sys
from contextlib import suppress

from rich.console import Console
from rich.markup import escape

with suppress(ImportError):  # Windows has none
    import readline  # noqa: F401  input() edits lines with it

PROMPT = "> "
NEXT_LINE = "\\"  # at the end of a line: there is more


class Terminal:
    """Standard input, output and error."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        self.is_interactive = sys.stdin.isatty() and self._console.is_terminal

    def read(self) -> str:
        """What the user says next, lines joined.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: Ctrl-C.
        """
        prompt = PROMPT if self.is_interactive else ""
        lines = [input(prompt)]
        while lines[-1].endswith(NEXT_LINE):
            lines[-1] = lines[-1].removesuffix(NEXT_LINE)
            lines.append(input("." * (len(prompt) - 1) + " " if prompt else ""))
        return "\n".join(lines)

    def show(self, piece: str) -> None:
        """More of an answer."""
        sys.stdout.write(harmless(piece))
        sys.stdout.flush()

    def end_answer(self, about: str) -> None:
        """An answer is over; what is told about it only concerns who sits before it."""
        self.show("\n")
        if self.is_interactive:
            self._console.print(f"[dim]{escape(about)}[/]", soft_wrap=True)

    def say(self, words: str) -> None:
        """What a command comes to."""
        self._console.print(f"[cyan]{escape(words)}[/]", soft_wrap=True)

    def greet(self, words: str) -> None:
        """What to know at the beginning."""
        if self.is_interactive:
            self._console.print(f"[dim]{escape(words)}[/]", soft_wrap=True)

    def complain(self, words: str) -> None:
        """What went wrong."""
        self._errors.print(f"[bold red]error:[/] {escape(words)}", soft_wrap=True)


def harmless(text: str) -> str:
    """The text with control characters but line breaks and tabs written out."""
    return "".join(
        char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in text
    )
