"""Reads prompts as the model does, and says what it sees: their text, their tokens, and back.

Routes call it. It generates nothing and leaves the engine alone; long texts take a while, so all
of it runs on the text threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.errors import InvalidRequest
from app.text.codec import TextCodec
from app.text.executor import TextExecutor
from app.text.request import Conversation
from app.text.tokenized_text import TokenizedText


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReader:
    """What it needs of the service. Holds no state."""

    codec: TextCodec
    executor: TextExecutor
    context_length: int

    async def tokenize(
        self, prompt: str | Conversation, *, add_special_tokens: bool = True
    ) -> TokenizedText:
        """The tokens that a request with this prompt begins with.

        Args:
            prompt: a text, or a conversation, whose chat template writes its special tokens.
            add_special_tokens: whether a text gets those with which the tokenizer begins one.

        Raises:
            InvalidRequest: the model has no chat template, or it refuses the conversation.
        """
        work = partial(self._tokenize, prompt, add_special_tokens=add_special_tokens)
        return await self.executor.run(work)

    async def render(self, conversation: Conversation) -> str:
        """The text that the chat template makes of a conversation.

        Raises:
            InvalidRequest: the model has no chat template, or it refuses the conversation.
        """
        return await self.executor.run(partial(self.codec.render, conversation))

    async def detokenize(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The text of these tokens; half a character at an end shows as U+FFFD.

        Raises:
            InvalidRequest: there is no such token.
        """
        work = partial(self._detokenize, token_ids, skip_special_tokens=skip_special_tokens)
        return await self.executor.run(work)

    def _tokenize(self, prompt: str | Conversation, *, add_special_tokens: bool) -> TokenizedText:
        if isinstance(prompt, str):
            return self.codec.tokenize(prompt, has_special_tokens=not add_special_tokens)
        return self.codec.tokenize(self.codec.render(prompt), has_special_tokens=True)

    def _detokenize(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        unknown = next((each for each in token_ids if each >= self.codec.num_ids), None)
        if unknown is not None:
            raise InvalidRequest(
                f"There is no token {unknown}: the ids end at {self.codec.num_ids - 1}.",
                param="tokens",
                code="unknown_token",
            )
        if skip_special_tokens:
            return self.codec.decode(token_ids)
        return self.codec.spell(token_ids)
