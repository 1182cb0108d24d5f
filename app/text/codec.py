"""Text to token ids and back, safe to use from any thread.

Wraps a model's tokenizer: tokenising happens on the text threads, decoding on the event loop and,
for stop strings, on the engine's thread, all at once. A fast tokenizer is used through its
backend, which never changes once truncation and padding are off; any other is locked.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from jinja2 import TemplateError

from app.errors import InvalidRequest
from app.text.request import Conversation, Message
from app.text.token_bytes import UNDECODABLE, token_bytes

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

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if the tokenizer has one."""
        return cast("int | None", self._tokenizer.bos_token_id)

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be rendered."""
        return self._tokenizer.chat_template is not None

    def encode(self, text: str, *, has_special_tokens: bool = False) -> tuple[int, ...]:
        """Token ids of `text`; special tokens are added unless a template wrote them."""
        if self._backend is not None:
            encoding = self._backend.encode(text, add_special_tokens=not has_special_tokens)
            return tuple(encoding.ids)
        with self._lock:
            ids = self._tokenizer.encode(text, add_special_tokens=not has_special_tokens)
            return tuple(cast("list[int]", ids))

    def render(self, conversation: Conversation) -> str:
        """The prompt that the model's chat template makes of a conversation.

        As in transformers' text-generation pipeline, a last message of the assistant is the
        beginning of the answer; otherwise the template opens a new one.

        Raises:
            InvalidRequest: no template, or the template refuses the conversation.
        """
        if self._tokenizer.chat_template is None:
            raise InvalidRequest(
                "This model has no chat template; send the prompt as `text` instead.",
                param="messages",
                code="no_chat_template",
            )
        rendered = self._render(conversation)
        if any(message.name is not None for message in conversation):
            nameless = tuple(replace(message, name=None) for message in conversation)
            if self._render(nameless) == rendered:
                raise InvalidRequest(
                    "The model's chat template does not show who of a role speaks; leave name out, "
                    "or put it into the content.",
                    param="messages",
                    code="unsupported",
                )
        return rendered

    def _render(self, conversation: Conversation) -> str:
        is_prefilled = conversation[-1].role == "assistant"
        turns = [_turn(message) for message in conversation]
        try:
            rendered = self._tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=not is_prefilled,
                continue_final_message=is_prefilled,
            )
        except (TemplateError, ValueError) as error:
            raise InvalidRequest(
                "The model's chat template refuses these messages; change their roles or order, or "
                f"send the prompt as `text`. It says: {error}",
                param="messages",
            ) from error
        return cast("str", rendered)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Their text without special tokens; undecodable bytes become U+FFFD."""
        return self._decode(token_ids, skip_special_tokens=True)

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


def _turn(message: Message) -> dict[str, str]:
    """A message as templates take it."""
    turn = {"role": message.role, "content": message.content}
    return turn if message.name is None else turn | {"name": message.name}


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
