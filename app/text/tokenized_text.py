"""A text with its tokens, as `TextCodec.tokenize` gives it."""

from dataclasses import dataclass

Span = tuple[int, int]  # where it begins and where it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedText:
    """A text, its tokens, and the characters that each of them stands for."""

    text: str
    token_ids: tuple[int, ...]
    spans: tuple[Span, ...] | None  # in characters; (0, 0) of a token that the tokenizer added

    @property
    def byte_spans(self) -> tuple[Span, ...] | None:
        """The same places in the text's UTF-8."""
        if self.spans is None:
            return None
        starts = [0]  # of each character, and the end
        for character in self.text:
            starts.append(starts[-1] + len(character.encode()))
        return tuple((starts[begin], starts[end]) for begin, end in self.spans)
