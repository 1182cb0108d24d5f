"""Who may ask, and for how much in a minute."""

import re
from typing import Annotated, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from app.setting_groups.kinds import A_GOOD_SECRET, RedisUrl, Secrets, UserPath

PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]
KEY = re.compile(r"[!-+\--~]{16,256}")  # visible ASCII without commas


class AccessSettings(BaseModel):
    """API keys and their limits."""

    keys_file: UserPath | None = Field(
        default=None, description="API keys, as `beamline keys` writes them; nobody else may ask."
    )
    api_keys: Secrets = Field(
        default=(), description="API keys that may generate, with commas in between."
    )
    admin_api_keys: Secrets = Field(
        default=(), description="The same, for keys that may do everything."
    )
    requests_per_minute: PerMinute | None = Field(
        default=None, description="Requests of a key in a minute, if it has no limit of its own."
    )
    tokens_per_minute: PerMinute | None = Field(
        default=None,
        description="The same for tokens, those of prompts included; by default there is no limit.",
    )
    rate_limit_redis: RedisUrl | None = Field(
        default=None, description="URL of a Redis in which replicas count together."
    )
    public_metrics: bool = Field(default=False, description="GET /metrics needs no key.")

    @field_validator("api_keys", "admin_api_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(KEY.fullmatch(key.get_secret_value()) for key in keys):
            raise ValueError(f"a key has 16 to 256 visible ASCII characters; {A_GOOD_SECRET}")
        return keys

    @model_validator(mode="after")
    def _limits_have_keys(self) -> Self:
        limits = ("requests_per_minute", "tokens_per_minute", "rate_limit_redis")
        given = [name for name in limits if getattr(self, name) is not None]
        if given and not self.has_keys:
            raise ValueError(
                f"{given[0]} counts by API key, and there are none: set keys_file or api_keys"
            )
        return self

    @property
    def has_keys(self) -> bool:
        """Whether requests need an API key; so it is also with a file that holds none yet."""
        return bool(self.keys_file or self.api_keys or self.admin_api_keys)
