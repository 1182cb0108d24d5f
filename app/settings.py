"""The service's settings: one frozen object, read from the environment (`BEAMLINE_*`).

The command line and `create_app` build a `Settings` of the groups in `app/setting_groups`; the
engine and `optimize` get narrowed, frozen pieces of it (`engine_config`, `model_spec`). Nothing is
ignored: an unknown `BEAMLINE_` variable is refused with the name that was probably meant. The model
itself is not looked at here.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.environment import CLIENT_KEY_VARIABLE
from app.setting_groups.access import AccessSettings
from app.setting_groups.answers import AnswerSettings
from app.setting_groups.draft_model import DraftModelSettings
from app.setting_groups.engine import EngineSettings
from app.setting_groups.model import ModelSettings
from app.setting_groups.requests import RequestSettings
from app.setting_groups.server import ServerSettings

ENVIRONMENT_PREFIX = "BEAMLINE_"
SERVICE_LINK = re.compile(r"BEAMLINE_(SERVICE_(HOST|PORT.*)|PORT_\d+_.*)")
# What other users of the machine must not see in a list of processes.
ENVIRONMENT_ONLY = frozenset(
    {"api_keys", "admin_api_keys", "tls_key_password", "cache_redis_secret"}
)
URLS = frozenset({"rate_limit_redis", "cache_redis", "otlp_endpoint"})


class SettingsError(ValueError):
    """Settings that cannot be used; the message names each and says what it may be."""


class Settings(
    AnswerSettings,
    EngineSettings,
    RequestSettings,
    AccessSettings,
    ServerSettings,
    DraftModelSettings,
    ModelSettings,  # whose fields come first: Python looks at the last of them first
    BaseSettings,
):
    """Every setting of the service: explicit values, else the environment, else the default."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    @model_validator(mode="after")
    def _shards_go_without_a_draft_model(self) -> Self:
        if self.tensor_parallel_size > 1 and self.draft_model is not None:
            raise ValueError("tensor_parallel_size does not go with draft_model: leave one out")
        return self

    @model_validator(mode="after")
    def _sharing_across_keys_has_keys(self) -> Self:
        if self.cache_across_keys and not self.has_keys:
            raise ValueError("cache_across_keys has no effect without API keys")
        return self

    @property
    def draft_settings(self) -> Self | None:
        """Settings that load the draft model: on the same device, by the runtime that suits it.

        Its answers need not be exact, so it keeps its weights as they are fastest.
        """
        if self.draft_model is None:
            return None
        own = {"model": self.draft_model, "revision": self.draft_revision, "runtime": "auto"}
        others = dict.fromkeys(
            ("weights", "calibration", "draft_model", "draft_revision", "num_speculative_tokens")
        )
        return self.model_copy(update=own | others)


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from the environment, with `overrides` (by field name) on top.

    Raises:
        SettingsError: a value is out of range or a `BEAMLINE_` variable is unknown.
    """
    _refuse_unknown_variables(os.environ)
    try:
        return Settings.model_validate(dict(overrides or {}))  # reads the environment as well
    except ValidationError as error:
        raise SettingsError(_describe(error)) from error


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    known.add(CLIENT_KEY_VARIABLE)
    given = (name for name in names if name.upper().startswith(ENVIRONMENT_PREFIX))
    unknown = sorted(name for name in given if name.upper() not in known)
    if unknown:
        raise SettingsError("\n".join(_unknown_variable(name, known) for name in unknown))


def _unknown_variable(name: str, known: Iterable[str]) -> str:
    if SERVICE_LINK.fullmatch(name):
        return (
            f"environment variable {name} is Kubernetes' link to a Service named beamline: "
            "set enableServiceLinks: false in the pod, or name the Service otherwise"
        )
    close = difflib.get_close_matches(name.upper(), sorted(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "`beamline serve --help` lists the settings."
    return f"environment variable {name} is not a setting of Beamline: {hint}"


def _describe(error: ValidationError) -> str:
    """One line a mistake: the option, the variable, what is wrong and what was given."""
    mistakes = error.errors(include_url=False, include_context=False)
    return "\n".join(_describe_one(mistake) for mistake in mistakes)


def _describe_one(mistake: ErrorDetails) -> str:
    field = ".".join(str(part) for part in mistake["loc"])
    message = mistake["msg"].removeprefix("Value error, ")
    if not field:
        return message
    variable = ENVIRONMENT_PREFIX + field.upper()
    if field.partition(".")[0] in ENVIRONMENT_ONLY:  # a secret, which no log may hold
        return f"{variable}: {message}"
    option = field.replace("_", "-")
    if field in URLS:  # which may hold passwords
        return f"--{option} ({variable}): {message}"
    given = repr(mistake["input"])[:80]
    return f"--{option} ({variable}): {message}; it is {given}"
