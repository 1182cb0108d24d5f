"""Types of settings that more than one group uses: bounds, lists, paths, addresses.

A mistake is a `ValueError` that says what the value should be; `app/settings.py` adds the name.
"""

import re
import urllib.parse
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

MEBIBYTE = 2**20
A_GOOD_SECRET = "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one"


def split(given: object) -> object:
    """The parts of a list that is written with commas in between."""
    if not isinstance(given, str):
        return given
    return tuple(part.strip() for part in given.split(",") if part.strip())


def _check_redis(url: str) -> str:
    if not _is_redis(url):
        raise ValueError("should be like redis://host:6379/0, or rediss:// for TLS")
    return url


def _is_redis(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        is_place = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
    has_database = re.fullmatch(r"(/\d*)?", parts.path) is not None
    return parts.scheme in ("redis", "rediss") and is_place and has_database


Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0.0, le=86_400.0, allow_inf_nan=False)]
LimitSeconds = Annotated[float, Field(gt=0.0, le=86_400.0, allow_inf_nan=False)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
RedisUrl = Annotated[str, AfterValidator(_check_redis)]
# Written with commas in between, on the command line as in the environment.
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
