"""The text of one generated sequence: detokenised, cut before or behind its first stop string.

One definition for streams and whole answers: what `push` and `finish` return, joined, is `text`.
"""

from collections.abc import Sequence

from app.text.codec import TextCodec
from app.text.detokenizer import Detokenizer
from app.text.stop_strings import StopKeeper, StopScanner


class SequenceText:
    """Grows token by token. Its flight is the only writer."""

    def __init__(
        self,
        codec: TextCodec,
        *,
        context: Sequence[int],
        stops: Sequence[str],
        keeps_stop: bool = False,
    ) -> None:
        self._detokenizer = Detokenizer(codec, context)
        self._scanner = StopKeeper(stops) if keeps_stop else StopScanner(stops)
        self._pieces: list[str] = []
        self.num_tokens = 0

    @property
    def text(self) -> str:
        """All text given out so far."""
        return "".join(self._pieces)

    @property
    def has_stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._scanner.has_stopped

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that became certain with these tokens."""
        self.num_tokens += len(token_ids)
        # Token by token, as the engine looks for stop strings: how they arrive must not matter.
        pieces = [self._scanner.push(self._detokenizer.push(token_id)) for token_id in token_ids]
        return self._keep("".join(pieces))

    def finish(self) -> str:
        """The text that was held back, now that the sequence has ended."""
        rest = self._scanner.push(self._detokenizer.finish())
        return self._keep(rest + self._scanner.finish())

    def _keep(self, piece: str) -> str:
        if piece:
            self._pieces.append(piece)
        return piece
