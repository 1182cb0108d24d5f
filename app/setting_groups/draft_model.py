"""A second, smaller model that guesses ahead, and how far it does."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

DEFAULT_GUESSES = 4


class DraftModelSettings(BaseModel):
    """The draft model."""

    draft_model: str | None = Field(
        default=None,
        description="A smaller model with the same tokenizer that guesses ahead; named as --model.",
    )
    draft_revision: str | None = Field(default=None, description="Revision of the draft model.")
    num_speculative_tokens: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Guesses of the draft model at once, for requests that do not say; by default "
        f"{DEFAULT_GUESSES}. 0: only for those that ask.",
    )

    @model_validator(mode="after")
    def _drafts_need_a_model(self) -> Self:
        for name in ("draft_revision", "num_speculative_tokens"):
            if self.draft_model is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of no use without draft_model")
        return self

    @property
    def default_guesses(self) -> int:
        """How many tokens are guessed at once for requests that do not say."""
        if self.draft_model is None:
            return 0
        given = self.num_speculative_tokens
        return DEFAULT_GUESSES if given is None else given
