"""The base of all request bodies: nothing unknown, no conversions, no infinities."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Takes what its fields say and nothing else; frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
