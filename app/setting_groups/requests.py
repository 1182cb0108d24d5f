"""The most that one request may ask for, where the model or a step could do more."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.setting_groups.kinds import Count


class RequestSettings(BaseModel):
    """Bounds of a request; `app/generation/request_limits.py` keeps to them."""

    max_prompt_tokens: Count | None = Field(
        default=None, description="Tokens of a prompt; by default the model's context."
    )
    max_new_tokens: Count | None = Field(
        default=None, description="New tokens of a text; by default the model's context."
    )
    max_sequences: Count | None = Field(
        default=None,
        description="Beams or samples of a text at once; by default as many as a step computes.",
    )
    max_texts: Annotated[int, Field(ge=1, le=128)] = Field(
        default=128, description="Texts in one request."
    )
    max_stops: Annotated[int, Field(ge=0, le=16)] = Field(
        default=16, description="Stop strings of a text."
    )
