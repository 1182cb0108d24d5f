"""A request for text as the inside of `app` knows it: parsed, bounded, frozen.

`app/bodies/request_models.py` makes it of a JSON body; `app/generation/preparation.py` turns it
into token ids.
"""

from dataclasses import dataclass, fields

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
    def strategy_parameters(self) -> dict[str, object]:
        """The strategy's parameters by name, defaults filled in."""
        names = [field.name for field in fields(self.strategy)]  # type: ignore[arg-type]
        return {name: getattr(self.strategy, name) for name in names}

    @property
    def is_guided(self) -> bool:
        """Whether a negative prompt is computed beside the prompt."""
        return self.guidance_scale != 1.0

    @property
    def num_rows(self) -> int:
        """The most sequences that are computed at once; guided ones count twice."""
        return self.strategy.num_rows * (2 if self.is_guided else 1)

    @property
    def is_determined(self) -> bool:
        """Whether whoever computes it gets the same; not so for a draw without a seed."""
        return self.strategy.is_deterministic or self.seed is not None

    @property
    def is_cacheable(self) -> bool:
        """Whether its answer may come from a cache, and go into it."""
        return self.is_determined if self.cache is None else self.cache

    @property
    def is_short(self) -> bool:
        """Whether it is prepared in microseconds: little plain text, and no grammar."""
        texts = (self.prompt, self.negative_prompt or "")
        is_plain = all(isinstance(text, str) and len(text) <= SHORT_CHARACTERS for text in texts)
        return is_plain and self.grammar is None and not self.stop
