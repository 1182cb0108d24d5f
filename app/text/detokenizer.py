"""Token ids to text, one token at a time, without ever taking text back.

Used by `SequenceText`, for streams and whole answers alike, so both are the same to the letter.
A token is held back while it ends inside a character. Knows nothing of stop strings.
"""

from collections.abc import Sequence

from app.text.codec import TextCodec
from app.text.token_bytes import UNDECODABLE

MAX_HELD_TOKENS = 16  # no character has more bytes than this; what is held longer is garbage


class Detokenizer:
    """The text of one growing sequence. Decodes a short window per token, never the whole.

    The window holds the tokens of the last piece of text and those held back since. Decoding
    both together and cutting off the known part gives the new text as it reads in its place:
    with its leading space, which decoders drop from the first token they see.
    """

    def __init__(self, codec: TextCodec, context: Sequence[int] = ()) -> None:
        self._codec = codec
        self._window = list(context)
        self._num_known = len(context)  # tokens of the window whose text has been given out
        self._known_text = codec.decode(context) if context else ""

    def push(self, token_id: int) -> str:
        """The text that became certain with this token; often one word, sometimes nothing."""
        if self._codec.is_silent(token_id):
            return ""
        self._window.append(token_id)
        text = self._codec.decode(self._window)
        num_held = len(self._window) - self._num_known
        if num_held < MAX_HELD_TOKENS and (
            text.endswith(UNDECODABLE) or len(text) <= len(self._known_text)
        ):
            return ""
        return self._release(text)

    def finish(self) -> str:
        """What was held back, now that no more tokens come."""
        if len(self._window) == self._num_known:
            return ""
        return self._release(self._codec.decode(self._window))

    def _release(self, text: str) -> str:
        held = self._window[self._num_known :]
        held_text = self._codec.decode(held)
        new_text = text.removeprefix(self._known_text)
        if not text.startswith(self._known_text):  # broken bytes changed how that part decodes
            new_text = held_text
        if held_text:
            self._window, self._known_text = held, held_text
            self._num_known = len(held)
        else:
            del self._window[self._num_known :]
        return new_text
