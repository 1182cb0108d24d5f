"""What each token adds to a text. The pieces of tokens that show, joined, are the text itself.

`presentation` and `stream` show tokens through it, whole answers and streams alike.
"""

from app.generation.prepared_request import PreparedRequest
from app.text.codec import TextCodec
from app.text.sequence_text import SequenceText
from app.tgi.responses import Token
from decoding.base import Alternatives


class TokenWriter:
    """Writes the tokens of one sequence, in order. Whoever made it is its only user."""

    def __init__(self, codec: TextCodec, prepared: PreparedRequest) -> None:
        self._codec = codec
        self._text = SequenceText(
            codec,
            context=prepared.context,
            stops=prepared.request.stop,
            keeps_stop=prepared.request.keeps_stop,
        )

    def write(self, token_id: int, logprob: float, *, is_last: bool = False) -> Token:
        """The next token; the last one also brings what was held back."""
        text = self._text.push((token_id,)) + (self._text.finish() if is_last else "")
        # An end token that sets free what was held back counts as one that shows.
        is_special = not text and self._codec.is_silent(token_id)
        if is_special:
            text = self._codec.token_text(token_id)
        return Token(id=token_id, text=text, logprob=logprob, special=is_special)

    def rest(self) -> str:
        """What was held back, of a text that ended without another token."""
        return self._text.finish()


def likely_tokens(alternatives: Alternatives, codec: TextCodec) -> list[Token]:
    """Tokens that might have come at a place, each by itself."""
    return [
        Token(
            id=token_id,
            text=codec.token_text(token_id),
            logprob=logprob,
            special=codec.is_silent(token_id),
        )
        for token_id, logprob in alternatives
    ]
