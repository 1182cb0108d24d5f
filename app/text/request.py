"""A request for text as the inside of `app` knows it: parsed, bounded, frozen.

`request_models.py` makes it of a JSON body; `preparation.py` turns it into token ids.
"""

from dataclasses import dataclass

from app.text.adjustments import NO_TEXT_ADJUSTMENTS, TextAdjustments
from app.text.grammar.spec import GrammarSpec
from app.text.tools.spec import ToolCall, ToolUse
from decoding.base import Strategy
from engine.prompt_lookup import PromptLookup
from engine.trace import TraceOptions
from engine.urgency import NO_HURRY, Urgency

DEFAULT_NEW_TOKENS = 50
SHORT_CHARACTERS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str
    name: str | None = None  # who of those in this role
    tool_calls: tuple[ToolCall, ...] = ()  # what the assistant called
    tool_call_id: str | None = None  # of role `tool`: which call this is the result of


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrompt:
    """A prompt that is tokens already; any number, for they are not checked yet."""

    ids: tuple[int, ...]


Conversation = tuple[Message, ...]
Prompt = str | Conversation | TokenPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """One prompt and how to continue it.

    At most one of the two lengths is set; without any, the text may fill all the room there is.
    """

    prompt: Prompt
    prompt_field: str  # where the body holds it, for errors: `text`, `messages`, or `text.0`
    strategy: Strategy
    max_new_tokens: int | None = None
    max_length: int | None = None  # prompt plus new tokens
    truncate_prompt_tokens: int | None = None  # only so many of the prompt's tokens, the last ones
    seed: int | None = None
    urgency: Urgency = NO_HURRY  # counts from its arrival
    stop: tuple[str, ...] = ()
    keeps_stop: bool = False  # whether the text ends with the stop string that ended it
    return_full_text: bool = True
    adjustments: TextAdjustments = NO_TEXT_ADJUSTMENTS
    guidance_scale: float = 1.0  # 1: no guidance
    negative_prompt: str | None = None  # what it leads away from
    lookup: PromptLookup | None = None  # speeds it up where it copies text
    num_speculative_tokens: int | None = None  # guessed by the draft model; None: the server's word
    grammar: GrammarSpec | None = None  # what the text must look like
    tools: ToolUse | None = None  # functions that may be called in it
    cache: bool | None = None  # True: always, False: never, None: if the answer is determined
    deterministic: bool = False  # to be refused where the runtime cannot promise it
    details: bool = False
    top_logprobs: int = 0  # most likely tokens to report at each generated place
    prompt_logprobs: int | None = None  # the same at each place of the prompt; None: not scored
    trace: TraceOptions | None = None  # make the decode visible

    @property
    def is_short(self) -> bool:
        """Whether it is prepared in microseconds: little plain text, and no grammar."""
        texts = (self.prompt, self.negative_prompt or "")
        is_plain = all(isinstance(text, str) and len(text) <= SHORT_CHARACTERS for text in texts)
        return is_plain and self.grammar is None and not self.stop
