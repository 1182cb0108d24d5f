"""Text to token ids and back, safe to use from any thread.

Wraps a model's tokenizer: tokenising happens on the text threads, decoding on the event loop and,
for stop strings, on the engine's thread, all at once. A fast tokenizer is used through its
backend, which never changes once truncation and padding are off; any other is locked.
"""

import threading
from collections.abc import Sequence
from copy import copy
from itertools import groupby
from typing import TYPE_CHECKING, cast

from app.text.chat_template import ChatTemplate
from app.text.request import Conversation
from app.text.token_bytes import UNDECODABLE, token_bytes
from app.text.tokenized_text import TokenizedText
from app.text.tools.formats import CallFormat
from app.text.tools.spec import Function

if TYPE_CHECKING:  # importing transformers takes seconds, and only its types are needed here
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

MAX_CONTEXT_TOKENS = 8
PROBE = "Hello there,  1 2\n\té"


class TextCodec:
    """Encodes, renders and decodes with one tokenizer, of which it is the only user."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._backend = _faithful_backend(tokenizer)
        self._silent_ids = _silent_ids(tokenizer, self._backend)
        self._num_ids = len(tokenizer)
        self._template = ChatTemplate(tokenizer)
        self._shown_ids: frozenset[int] = frozenset()  # though they are special

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if the tokenizer has one."""
        return cast("int | None", self._tokenizer.bos_token_id)

    @property
    def num_ids(self) -> int:
        """Tokens of the tokenizer; the model may know others."""
        return self._num_ids

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be rendered."""
        return self._template.is_there

    @property
    def call_format(self) -> CallFormat:
        """How the model writes calls of functions."""
        return self._template.call_format

    def showing(self, token_ids: frozenset[int]) -> "TextCodec":
        """A codec that is the same, but shows these tokens though they are special."""
        shown = copy(self)
        shown._shown_ids = token_ids
        return shown

    def encode(self, text: str, *, has_special_tokens: bool = False) -> tuple[int, ...]:
        """Token ids of `text`; special tokens are added unless a template wrote them."""
        if self._backend is not None:
            encoding = self._backend.encode(text, add_special_tokens=not has_special_tokens)
            return tuple(encoding.ids)
        with self._lock:
            ids = self._tokenizer.encode(text, add_special_tokens=not has_special_tokens)
            return tuple(cast("list[int]", ids))

    def tokenize(self, text: str, *, has_special_tokens: bool = False) -> TokenizedText:
        """As `encode`, and where in `text` each token stands, if the tokenizer can tell."""
        add_special_tokens = not has_special_tokens
        if self._backend is not None:
            encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
            return TokenizedText(
                text=text, token_ids=tuple(encoding.ids), spans=tuple(encoding.offsets)
            )
        with self._lock:
            can_tell = self._tokenizer.is_fast
            encoded = self._tokenizer(
                text, add_special_tokens=add_special_tokens, return_offsets_mapping=can_tell
            )
        spans = tuple(tuple(span) for span in encoded["offset_mapping"]) if can_tell else None
        return TokenizedText(text=text, token_ids=tuple(encoded["input_ids"]), spans=spans)

    def render(self, conversation: Conversation, functions: Sequence[Function] = ()) -> str:
        """The prompt that the model's chat template makes of a conversation with these functions.

        Raises:
            InvalidRequest: no template, or the template refuses the conversation.
        """
        return self._template.render(conversation, functions)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Their text without special tokens; undecodable bytes become U+FFFD."""
        if self._shown_ids.isdisjoint(token_ids):
            return self._decode(token_ids, skip_special_tokens=True)
        parts = groupby(token_ids, self._shown_ids.__contains__)
        return "".join(
            self._decode(list(ids), skip_special_tokens=not is_shown) for is_shown, ids in parts
        )

    def spell(self, token_ids: Sequence[int]) -> str:
        """Their text with special tokens; undecodable bytes become U+FFFD."""
        return self._decode(token_ids, skip_special_tokens=False)

    def token_text(self, token_id: int) -> str:
        """The text of one token alone, special or not."""
        return self._decode((token_id,), skip_special_tokens=False)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token within a text, special or not; it may be part of a character."""
        piece = cast("str | None", self._tokenizer.convert_ids_to_tokens(token_id))
        return token_bytes(piece or "", self.token_text(token_id))

    def encode_piece(self, text: str) -> tuple[int, ...]:
        """Token ids of a text that stands within another: no special tokens are added."""
        return self.encode(text, has_special_tokens=True)

    def phrases_of(self, word: str) -> tuple[tuple[int, ...], ...]:
        """Token ids of a word or phrase, as it is written and after a space."""
        variants = (word, f" {word.lstrip()}")
        return tuple(dict.fromkeys(ids for ids in map(self.encode_piece, variants) if ids))

    def token_texts(self, num_ids: int) -> list[str]:
        """The text of each token by its id, those of the model that the tokenizer lacks empty."""
        return [
            self.token_text(token_id) if token_id < self._num_ids else ""
            for token_id in range(num_ids)
        ]

    def is_silent(self, token_id: int) -> bool:
        """Whether the token never shows: special, or unknown to the tokenizer."""
        if token_id in self._shown_ids:
            return False
        return token_id >= self._num_ids or token_id in self._silent_ids

    def context_of(self, prompt_ids: Sequence[int]) -> tuple[int, ...]:
        """The end of a prompt that decoding its continuation needs to get spaces right.

        Some decoders drop the space before the first word they are given, so the first new
        token is decoded after these. Empty where the continuation begins a text of its own.
        """
        if self.is_silent(prompt_ids[-1]):
            return ()
        for size in range(1, MAX_CONTEXT_TOKENS + 1):
            context = tuple(prompt_ids[-size:])
            text = self.decode(context)
            if text and UNDECODABLE not in text:
                return context
        return ()

    def _decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        if self._backend is not None:
            return self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        with self._lock:
            decoded = self._tokenizer.decode(
                list(token_ids),
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=False,
            )
            return cast("str", decoded)


def _faithful_backend(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer | None":
    """The backend of a fast tokenizer, unless its class encodes otherwise than its backend."""
    backend = cast("Tokenizer | None", getattr(tokenizer, "backend_tokenizer", None))
    if not tokenizer.is_fast or backend is None:
        return None
    backend.no_truncation()
    backend.no_padding()
    expected = tokenizer.encode(PROBE)  # also settles how the backend treats special tokens
    return backend if backend.encode(PROBE).ids == expected else None


def _silent_ids(
    tokenizer: "PreTrainedTokenizerBase", backend: "Tokenizer | None"
) -> frozenset[int]:
    if backend is None:
        return frozenset(tokenizer.all_special_ids)
    added = backend.get_added_tokens_decoder()
    return frozenset(token_id for token_id, token in added.items() if token.special)
