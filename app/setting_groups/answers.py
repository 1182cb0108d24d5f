"""What is kept of answers, here and in a Redis, and what it takes to write them out."""

import urllib.parse
from typing import Annotated, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from app.setting_groups.kinds import A_GOOD_SECRET, MEBIBYTE, Count, RedisUrl

MIN_SECRET_CHARACTERS = 32
REDIS_OPTIONS = frozenset(  # what the URL may say besides, as redis-py names it
    {
        *("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"),
        *("client_name", "db", "protocol"),
    }
)


class AnswerSettings(BaseModel):
    """The response cache, the one that replicas share, jobs, streams and text threads."""

    response_cache_entries: int = Field(
        default=1024, ge=0, le=10_000_000, description="Answers kept; 0 keeps none."
    )
    response_cache_bytes: int = Field(
        default=64 * MEBIBYTE, ge=0, description="Most memory those answers take."
    )
    max_jobs: Count = Field(default=1024, description="Asynchronous jobs kept, done or not.")
    job_ttl_seconds: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = Field(
        default=3600.0, description="How long a finished job can be fetched."
    )
    cache_across_keys: bool = Field(
        default=False,
        description="API keys are answered from each other's answers; by default only their own.",
    )
    cache_redis: RedisUrl | None = Field(
        default=None, description="URL of a Redis in which replicas share answers."
    )
    cache_redis_ttl_seconds: Annotated[float, Field(ge=1.0, le=31_536_000.0)] = Field(
        default=3600.0, description="How long an answer stays there."
    )
    cache_redis_timeout_seconds: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        default=0.05, description="The longest that a request waits for it."
    )
    cache_redis_entry_bytes: int = Field(
        default=MEBIBYTE, ge=1024, le=64 * MEBIBYTE, description="Largest answer stored there."
    )
    cache_redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,64}$")] = Field(
        default="beamline:answers", description="What names there begin with."
    )
    cache_redis_secret: SecretStr | None = Field(
        default=None, description="What replicas seal their answers with."
    )
    text_threads: int = Field(default=2, ge=1, le=256, description="Threads that tokenise.")
    max_pending_texts: Count = Field(
        default=512, description="Texts that may wait for a thread; more are refused with a 503."
    )
    sse_keep_alive_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = Field(
        default=15.0,
        description="Silence in a stream after which a comment is sent, against proxies' timeouts.",
    )

    @field_validator("cache_redis")
    @classmethod
    def _check_redis_options(cls, url: str | None) -> str | None:
        options = urllib.parse.parse_qs(urllib.parse.urlsplit(url or "").query)
        unknown = sorted(set(options) - REDIS_OPTIONS)
        if unknown:
            raise ValueError(
                f"{unknown[0][:40]!r} is no option of it; there are "
                f"{', '.join(sorted(REDIS_OPTIONS))}"
            )
        return url

    @field_validator("cache_redis_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < MIN_SECRET_CHARACTERS:
            raise ValueError(
                f"a secret has at least {MIN_SECRET_CHARACTERS} characters; {A_GOOD_SECRET}"
            )
        return secret

    @model_validator(mode="after")
    def _shared_cache_has_a_place(self) -> Self:
        given = sorted(n for n in self.model_fields_set if n.startswith("cache_redis_"))
        if given and self.cache_redis is None:
            raise ValueError(f"{given[0]} has no effect without cache_redis")
        return self
