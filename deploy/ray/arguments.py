"""What `application.py` can be told besides the service's own settings.

Ray reads them from `args` of an application in its configuration file, and refuses what is not
one of them by name.
"""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]

# What Ray's proxies decide: where they listen, and how.
LISTENING = frozenset({"host", "port", "tls_cert", "tls_key", "tls_key_password", "tls_client_ca"})
SECRET = frozenset({"api_keys", "admin_api_keys", "cache_redis_secret"})


class Arguments(BaseModel):
    """Arguments of the application."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    settings: dict[str, JsonValue] = Field(
        default={},
        description="Settings of the service by name, as `beamline serve --help` lists them; "
        "those that are missing are read from the environment of each replica.",
    )
    min_replicas: Annotated[int, Field(ge=1)] = Field(
        default=1, description="There are never fewer; the model stays loaded."
    )
    max_replicas: Annotated[int, Field(ge=1)] = Field(
        default=1, description="There are never more. The same as min_replicas: a fixed number."
    )
    target_requests: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None,
        description="Requests that a replica should have at once; by default half of max_rows.",
    )
    upscale_delay_seconds: Seconds = Field(
        default=15.0, description="How long more must be asked for before a replica is added."
    )
    downscale_delay_seconds: Seconds = Field(
        default=600.0, description="How long less must be asked for before one is taken away."
    )
    num_fronts: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Fronts, which read requests; one is enough for some hundred a second.",
    )
    num_cpus: Annotated[float, Field(gt=0.0)] = Field(
        default=1.0,
        description="Cores that Ray sets aside for a replica, and the threads it computes with.",
    )
    num_gpus: Annotated[float, Field(ge=0.0)] = Field(
        default=0.0, description="The same of accelerators."
    )
    front_cpus: Annotated[float, Field(ge=0.0)] = Field(
        default=0.0, description="Cores that Ray sets aside for a front, which mostly waits."
    )
    prefix_characters: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=512,
        description="Requests whose prompts begin alike for so many characters go to one replica.",
    )
    max_lead: Annotated[int, Field(ge=0)] = Field(
        default=16,
        description="By so many requests a replica may be ahead of the least loaded before "
        "requests go elsewhere, cached prefix or not.",
    )
    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        default=2,
        description="How often a request is sent, if its replicas die before they answer: so many "
        "replicas may a request take along that is itself what kills them.",
    )
    accept_seconds: Seconds = Field(
        default=30.0, description="How long a request waits for a replica before it gets a 503."
    )

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, value in settings.items():
            if name in LISTENING:
                raise ValueError(
                    f"{name} has no effect here: Ray's proxies listen; see http_options"
                )
            if name in SECRET or _has_password(value):
                raise ValueError(
                    f"{name} is secret, and Ray shows arguments to all who reach its dashboard: "
                    f"set BEAMLINE_{name.upper()} in the environment of the replicas"
                )
        return settings

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas ({self.max_replicas}) must not be less than min_replicas "
                f"({self.min_replicas})"
            )
        return self


def _has_password(value: JsonValue) -> bool:
    """Whether it is a URL, of a Redis say, that lets its reader in."""
    return isinstance(value, str) and "://" in value and urlsplit(value).password is not None
