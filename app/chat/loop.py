"""Read, ask, show, and again: the loop of `beamline chat`.

Between questions nothing runs on the event loop; while one is answered, Ctrl-C cancels it alone.
"""

import asyncio
import time

from app.chat.conversation import Conversation
from app.chat.partner import ChatFailed, Partner, Reply
from app.chat.slash_commands import SlashCommands
from app.chat.terminal import Terminal


class ChatLoop:
    """One chat, from the greeting to its end."""

    def __init__(
        self,
        conversation: Conversation,
        partner: Partner,
        terminal: Terminal,
        runner: asyncio.Runner,
    ) -> None:
        self._conversation = conversation
        self._partner = partner
        self._terminal = terminal
        self._runner = runner
        self._commands = SlashCommands(conversation, partner)
        self.has_failed = False  # a question from a pipe could not be answered

    def run(self) -> None:
        """Chat until the user leaves."""
        self._terminal.greet(f"{self._partner.description}. /help lists commands, Ctrl-D leaves.")
        is_over = False
        while not is_over:
            try:
                is_over = self._take(self._terminal.read())
            except EOFError:
                is_over = True
                self._terminal.greet("")
            except KeyboardInterrupt:
                self._terminal.greet("\n/quit or Ctrl-D leaves.")
            except ChatFailed as error:
                self.has_failed = True
                self._terminal.complain(str(error))

    def _take(self, line: str) -> bool:
        """Do what a line says; whether the chat is over."""
        if not line.strip():
            return False
        if not line.startswith("/") or line.startswith("//"):
            self._ask(line.removeprefix("/") if line.startswith("//") else line)
            return False
        outcome = self._commands.obey(line)
        if outcome.words:
            self._terminal.say(outcome.words)
        if outcome.question is not None:
            self._ask(outcome.question)
        return outcome.is_over

    def _ask(self, question: str) -> None:
        conversation, pieces = self._conversation, list[str]()
        conversation.ask(question)
        began_at = time.monotonic()

        def show(piece: str) -> None:
            pieces.append(piece)
            self._terminal.show(piece)

        try:
            reply = self._runner.run(self._partner.answer(conversation.body, show))
        except KeyboardInterrupt:
            conversation.answer("".join(pieces))
            self._terminal.end_answer("stopped")
        except ChatFailed:
            conversation.take_back_question()
            if pieces:
                self._terminal.end_answer("failed")
            raise
        else:
            conversation.answer(reply.text)
            self._end(reply, time.monotonic() - began_at)

    def _end(self, reply: Reply, seconds: float) -> None:
        for number, text in enumerate(reply.further, 2):
            self._terminal.show(f"\n\n{number}: {text}")
        speed = (
            "from the cache" if reply.is_cached else f"{reply.num_tokens / seconds:.1f} tokens/s"
        )
        seed = "" if reply.seed is None else f", seed {reply.seed}"
        self._terminal.end_answer(
            f"{reply.num_tokens} tokens, {speed}, {reply.finish_reason}{seed}"
        )
