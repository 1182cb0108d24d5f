"""Log-probabilities of tokens in the two shapes of OpenAI's API: of chats, and of completions.

All of them are the model's own, before any processing. Built for whole answers and for each chunk
of a stream alike.
"""

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from app.openai.answers import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from app.text.codec import TextCodec
from app.text.token_bytes import UNDECODABLE
from decoding.base import Alternatives, TokenScore

LEAST_LOGPROB = -9999.0  # stands for what is all but impossible, as in OpenAI's API


def scores_of(
    token_ids: Sequence[int], logprobs: Sequence[float], alternatives: Sequence[Alternatives]
) -> list[TokenScore]:
    """Each token with what is known of its place."""
    likely = alternatives or [()] * len(token_ids)
    return list(map(TokenScore, token_ids, logprobs, likely))


@dataclass(frozen=True, slots=True)
class ChatLogprobWriter:
    """Writes tokens as chats show them."""

    codec: TextCodec

    def write(self, scores: Iterable[TokenScore]) -> ChatLogprobs:
        """Each token, its bytes, and what was likely at its place."""
        return ChatLogprobs(
            content=[
                TokenLogprob(
                    **self._token(score.token_id, score.logprob).model_dump(),
                    top_logprobs=[self._token(*each) for each in score.alternatives],
                )
                for score in scores
            ]
        )

    def _token(self, token_id: int, logprob: float) -> TopLogprob:
        data = self.codec.token_bytes(token_id)
        text = data.decode(errors="replace")
        return TopLogprob(token=text, logprob=max(logprob, LEAST_LOGPROB), bytes=list(data))


@dataclass(slots=True)
class CompletionLogprobWriter:
    """Writes the tokens of one text, piece by piece, and keeps count of where they begin."""

    codec: TextCodec
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _num_characters: int = 0

    def write_prompt(
        self, text: str, token_ids: Sequence[int], scores: Sequence[TokenScore]
    ) -> CompletionLogprobs:
        """The tokens of an echoed prompt; the first, of which nothing is known, has no score."""
        first = self.codec.token_bytes(token_ids[0])
        is_shown = text.encode().startswith(first)  # or the tokenizer added it
        opening = CompletionLogprobs(
            tokens=[self._name(token_ids[0])],
            token_logprobs=[None],
            top_logprobs=[None],
            text_offset=[self._place(first if is_shown else b"")],
        )
        return joined(opening, self._write(scores, shows_special=True))

    def write(self, scores: Iterable[TokenScore]) -> CompletionLogprobs:
        """Generated tokens, of which special ones do not show in the text."""
        return self._write(scores, shows_special=False)

    def _write(self, scores: Iterable[TokenScore], *, shows_special: bool) -> CompletionLogprobs:
        scores = list(scores)
        return CompletionLogprobs(
            tokens=[self._name(score.token_id) for score in scores],
            token_logprobs=[max(score.logprob, LEAST_LOGPROB) for score in scores],
            top_logprobs=[self._likely(score) for score in scores],
            text_offset=[
                self._place(
                    self.codec.token_bytes(score.token_id)
                    if shows_special or not self.codec.is_silent(score.token_id)
                    else b""
                )
                for score in scores
            ],
        )

    def _likely(self, score: TokenScore) -> dict[str, float] | None:
        """The most likely tokens and the one that came; of two that look alike the likelier."""
        entries = [*score.alternatives, (score.token_id, score.logprob)]
        likely: dict[str, float] = {}
        for token_id, logprob in entries:
            likely.setdefault(self._name(token_id), max(logprob, LEAST_LOGPROB))
        return likely

    def _name(self, token_id: int) -> str:
        """A token's text; if it is half a character, its bytes, written as OpenAI's API did."""
        data = self.codec.token_bytes(token_id)
        text = data.decode(errors="replace")
        if UNDECODABLE not in text:
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _place(self, data: bytes) -> int:
        """Where the next token begins, which holds these bytes."""
        start = self._num_characters
        self._num_characters += len(self._decoder.decode(data))
        return start


def joined(first: CompletionLogprobs, then: CompletionLogprobs) -> CompletionLogprobs:
    """Two pieces of one text."""
    return CompletionLogprobs(
        tokens=first.tokens + then.tokens,
        token_logprobs=first.token_logprobs + then.token_logprobs,
        top_logprobs=first.top_logprobs + then.top_logprobs,
        text_offset=first.text_offset + then.text_offset,
    )
