"""The fields that every body has which asks for text, whichever API's names it follows otherwise.

`GenerateBody` and the bodies of `app/openai` inherit them; `request_models.py` adds those of each
strategy. Bounds that depend on the model are checked later, in `model_fit.py`; the bounds here
only keep every value sane.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Discriminator, Field, PrivateAttr, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.adjustment_fields import AdjustmentFields
from app.bodies.structured_outputs import StructuredOutputs
from app.bodies.urgency_fields import UrgencyFields
from app.text.request import Prompt, TextRequest
from app.text.token_bytes import UNDECODABLE
from decoding.base import Strategy
from decoding.errors import InvalidParameter
from engine.prompt_lookup import PromptLookup

MAX_TEXT_CHARACTERS = 2_000_000
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 128
MAX_TOKENS = 10_000_000  # beyond any model's context
MAX_DRAFT_TOKENS = 64
MAX_ALTERNATIVES = 20
MAX_SEED = 2**63 - 1


def _check_stop(text: str) -> str:
    if UNDECODABLE in text:
        raise PydanticCustomError(
            "invalid_stop",
            "Holds U+FFFD, which stands for bytes that are no text; name the text around it only",
        )
    return text


def string_or_list(value: object) -> str:
    """Which branch of a union a value belongs to; `request_errors` drops what is in brackets."""
    return "<list>" if isinstance(value, list) else "<string>"


# A bound on the length also makes Pydantic refuse lone surrogates, which no tokenizer takes.
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
Stop = Annotated[
    str,
    Field(min_length=1, max_length=MAX_STOP_CHARACTERS),
    AfterValidator(_check_stop),
]
StopOrList = Annotated[
    Annotated[Stop, Tag("<string>")]
    | Annotated[list[Stop], Field(max_length=MAX_STOPS), Tag("<list>")],
    Discriminator(string_or_list),
]
TokenCount = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class GenerationFields(AdjustmentFields, UrgencyFields):
    """How a text is to be continued. What it is and how the answer looks, subclasses say."""

    strategy_type: ClassVar[type[Strategy]]
    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Fields of strategies that these bodies call otherwise; the strategy's own name works too."""
    example: ClassVar[Mapping[str, object]]
    """A short request without what its strategy adds."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None,
        description="Makes random draws repeatable: the same request and seed give the same "
        "tokens. Drawn by the server, and reported, if the strategy is random and it is missing.",
    )
    stop: StopOrList | None = Field(
        default=None,
        description="A string, or a list of strings, that end the text; it is cut before them.",
    )
    include_stop_str_in_output: bool = Field(
        default=False,
        description="true: a text that a stop string ends is cut behind it, not before.",
    )
    truncate_prompt_tokens: TokenCount | None = Field(
        default=None,
        description="Drop the beginning of a prompt that is longer than so many tokens.",
    )
    structured_outputs: StructuredOutputs | None = Field(
        default=None,
        description="Holds the text to a JSON schema, a regex, a choice or a grammar.",
    )
    guidance_scale: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        default=1.0,
        description="Classifier-free guidance: above 1 the text keeps closer to the prompt and "
        "away from negative_prompt. Takes two rows a sequence; 1: none.",
    )
    negative_prompt: Text | None = Field(
        default=None,
        description="What guidance leads away from; without it, the prompt's last token alone.",
    )
    prompt_lookup_num_tokens: Annotated[int, Field(ge=0, le=MAX_DRAFT_TOKENS)] = Field(
        default=0,
        description="Guesses so many tokens at once by finding the newest ones earlier in the "
        "text: faster where text is copied, and never another answer. 0: no guessing.",
    )
    max_matching_ngram_size: Annotated[int, Field(ge=1, le=MAX_DRAFT_TOKENS)] = Field(
        default=3,
        description="How many tokens are compared at most to find where the text repeats itself.",
    )
    num_speculative_tokens: Annotated[int, Field(ge=0, le=MAX_DRAFT_TOKENS)] | None = Field(
        default=None,
        description="The server's draft model guesses so many tokens at once; the answer is the "
        "same, the time another. With prompt_lookup_num_tokens, where that finds nothing. By "
        "default what the server is set to, where the strategy allows guesses. 0: no guessing.",
    )
    cache: bool | None = Field(
        default=None,
        description="true: answer from the response cache, also a random request without a seed, "
        "whose first answer is then kept. false: neither look there nor store. By default the "
        "cache is used where the answer is determined: no randomness, or a seed.",
    )
    deterministic: bool = Field(
        default=False,
        description="true: refuse the request unless this server's runtime gives the same tokens "
        "and log-probabilities for the same request and seed, to the last bit, whatever else runs.",
    )

    _strategy: Strategy = PrivateAttr()

    @model_validator(mode="after")
    def _check_generation(self) -> Self:
        if self.include_stop_str_in_output and not self.stop:
            raise contradiction("include_stop_str_in_output", "Has no effect without stop")
        if self.negative_prompt is not None and self.guidance_scale == 1.0:
            raise contradiction("negative_prompt", "Has no effect at guidance_scale 1; raise it")
        for name in ("prompt_lookup_num_tokens", "num_speculative_tokens"):
            if getattr(self, name) and self.guidance_scale != 1.0:
                raise contradiction(name, "Guided texts cannot be guessed ahead; leave it out")
        try:
            self._strategy = self.build_strategy()
        except InvalidParameter as error:
            raise contradiction(
                self.renamed.get(error.field, error.field), error.message
            ) from error
        return self

    def build_strategy(self) -> Strategy:
        """The strategy with this body's parameters.

        Raises:
            InvalidParameter: they contradict each other.
        """
        names = [field.name for field in fields(self.strategy_type)]  # type: ignore[arg-type]
        return self.strategy_type(
            **{name: getattr(self, self.renamed.get(name, name)) for name in names}
        )

    def as_request(self, prompt: Prompt, field: str) -> TextRequest:
        """A request to continue `prompt`, which the body holds in `field`, as these fields say."""
        stops, structure = self.stop or [], self.structured_outputs
        return TextRequest(
            prompt=prompt,
            prompt_field=field,
            strategy=self._strategy,
            seed=self.seed,
            urgency=self.as_urgency(),
            truncate_prompt_tokens=self.truncate_prompt_tokens,
            keeps_stop=self.include_stop_str_in_output,
            stop=tuple(dict.fromkeys([stops] if isinstance(stops, str) else stops)),
            adjustments=self.as_adjustments(),
            lookup=self._lookup(),
            num_speculative_tokens=self.num_speculative_tokens,
            guidance_scale=self.guidance_scale,
            negative_prompt=self.negative_prompt,
            grammar=None if structure is None else structure.as_spec(),
            cache=self.cache,
            deterministic=self.deterministic,
        )

    def _lookup(self) -> PromptLookup | None:
        if not self.prompt_lookup_num_tokens:
            return None
        return PromptLookup(
            num_tokens=self.prompt_lookup_num_tokens, max_ngram_size=self.max_matching_ngram_size
        )


def contradiction(field: str, message: str) -> PydanticCustomError:
    """A mistake that is seen only when fields are looked at together; it is told of `field`."""
    return PydanticCustomError("contradiction", "{message}", {"message": message, "field": field})
