"""Where the service listens, how it stops, and what it tells of itself: logs, traces, metrics."""

import re
from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from app.environment import default_otlp_endpoint
from app.setting_groups.kinds import MEBIBYTE, LimitSeconds, Seconds, Texts, UserPath

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
ORIGIN = re.compile(r"https?://[^/\s]+|\*")


class ServerSettings(BaseModel):
    """The process and its port."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port; 0 takes a free one.")
    max_body_bytes: int = Field(
        default=4 * MEBIBYTE, ge=1024, description="Largest request body, in bytes."
    )
    grace_seconds: Seconds = Field(
        default=30.0, description="How long running requests may go on after SIGTERM."
    )
    stall_seconds: LimitSeconds = Field(
        default=120.0, description="Without a sign of the engine for so long, liveness fails."
    )
    log_level: LogLevel = Field(default="info", description="Least important line to log.")
    log_format: LogFormat = Field(default="text", description="text, or json: an object a line.")
    access_log: bool = Field(default=True, description="Log a line for each request.")
    log_prompts: bool = Field(
        default=False,
        description="Put the beginning of prompts and answers into that line; else none of it.",
    )
    otlp_endpoint: str | None = Field(
        default_factory=default_otlp_endpoint,
        pattern="^https?://.+",
        description="URL of an OTLP/HTTP collector that traces are sent to; "
        "by default OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    metrics_compat: Literal["vllm"] | None = Field(
        default=None,
        description="Give the gauges that balancers read a second time, under vLLM's names.",
    )
    cors_origins: Texts = Field(
        default=(),
        description="Origins whose web pages may call the API, with commas in between; * for all.",
    )
    tls_cert: UserPath | None = Field(
        default=None, description="Certificate chain, as PEM; the service then speaks HTTPS."
    )
    tls_key: UserPath | None = Field(default=None, description="Its private key, as PEM.")
    tls_key_password: SecretStr | None = Field(default=None, description="What that is under.")
    tls_client_ca: UserPath | None = Field(
        default=None, description="Only clients with a certificate of this authority may connect."
    )

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("an origin is like https://example.org, without a path, or *")
        return origins

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if self.tls_cert is None:
            rest = ("tls_key", "tls_key_password", "tls_client_ca")
            given = [name for name in rest if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{given[0]} has no effect without tls_cert")
        return self
