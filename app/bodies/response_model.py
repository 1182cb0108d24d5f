"""The base of all response bodies."""

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """Frozen: built once, then sent."""

    model_config = ConfigDict(frozen=True)


def is_absent(value: object) -> bool:
    """For fields that are left out rather than sent as null."""
    return value is None
