"""A request whose prompt is token ids and which fits the model: what a generation starts with.

Made by `preparation.py`. A flight decodes it, presenters show its answer, meters count its tokens.
"""

from dataclasses import dataclass, replace

from app.generation.cache_key import CacheKey
from app.text.request import TextRequest
from app.text.stop_strings import StopStrings
from decoding.adjustments import Adjustments
from decoding.base import PhrasesOf
from decoding.constraint import TokenConstraint
from engine.messages import GenerationRequest, NegativePrompt
from engine.urgency import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request that fits the model, with its prompt tokenised."""

    request: TextRequest
    prompt_text: str
    prompt_ids: tuple[int, ...]
    context: tuple[int, ...]  # the prompt tokens that the continuation is decoded after
    max_new_tokens: int
    stop_check: StopStrings | None
    adjustments: Adjustments
    shown_ids: frozenset[int]  # special tokens that its text shows
    constraint: TokenConstraint | None
    guidance: NegativePrompt | None
    phrases_of: PhrasesOf
    num_speculative_tokens: int
    cache_key: CacheKey | None  # None: neither looked up nor stored

    def owned_by(self, tenant: bytes) -> "PreparedRequest":
        """The same, sharing its answer with requests of this tenant only."""
        key = self.cache_key
        return self if key is None else replace(self, cache_key=replace(key, tenant=tenant))

    @property
    def num_rows(self) -> int:
        """Sequences that are computed; guided ones count twice."""
        return self.request.num_rows

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens that are read before the first new one."""
        negative = () if self.guidance is None else self.guidance.prompt_ids
        return len(self.prompt_ids) + len(negative)

    @property
    def max_num_tokens(self) -> int:
        """The most tokens that answering may take, those of all rows together."""
        return self.num_prompt_tokens + self.num_rows * self.max_new_tokens

    def as_generation(
        self, *, request_id: str, seed: int, urgency: Urgency, eos_token_ids: frozenset[int]
    ) -> GenerationRequest:
        """What the engine is asked; the time that `urgency` gives is what is left of it."""
        return GenerationRequest(
            request_id=request_id,
            prompt_ids=self.prompt_ids,
            strategy=self.request.strategy,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            urgency=urgency,
            eos_token_ids=eos_token_ids,
            stop=self.stop_check,
            adjustments=self.adjustments,
            guidance=self.guidance,
            lookup=self.request.lookup,
            num_speculative_tokens=self.num_speculative_tokens,
            num_alternatives=self.request.top_logprobs,
            scored_from=None if self.request.prompt_logprobs is None else 1,
            num_prompt_alternatives=self.request.prompt_logprobs or 0,
            trace=self.request.trace,
            constraint=self.constraint,
            phrases_of=self.phrases_of,
        )
