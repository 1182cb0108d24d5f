"""The size of a step, of the queue and of the KV cache; and the time that requests have."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from app.environment import default_threads
from app.setting_groups.kinds import MEBIBYTE, Count, LimitSeconds
from engine.config import EngineConfig


class EngineSettings(BaseModel):
    """What runs at once, and for how long."""

    max_rows: Count = Field(default=64, description="Sequences in one step.")
    max_step_tokens: Count = Field(default=512, description="Tokens computed in one step.")
    max_waiting_requests: Count = Field(
        default=256, description="Requests that may queue; more are refused with a 503."
    )
    threads: int = Field(
        default_factory=default_threads,
        ge=1,
        le=1024,
        description="Threads that compute on a CPU; by default OMP_NUM_THREADS or all cores.",
    )
    timeout_seconds: float | None = Field(
        default=None,
        gt=0.0,
        le=86_400.0,
        description="Time of a request that brings no timeout of its own.",
    )
    max_timeout_seconds: float | None = Field(
        default=None,
        gt=0.0,
        le=86_400.0,
        description="Most time of any request; a longer timeout is refused.",
    )
    queue_timeout_seconds: float | None = Field(
        default=None,
        gt=0.0,
        le=86_400.0,
        description="Time to begin a request that brings no queue_timeout.",
    )
    min_priority: int | None = Field(
        default=None,
        description="Most urgent priority a request may ask for; with 0 nobody can jump the queue.",
    )
    seconds_per_priority: LimitSeconds = Field(
        default=60.0,
        description="What a step of priority is worth: it counts as having come so much later.",
    )
    block_size: int = Field(
        default=16, ge=1, le=1024, description="Tokens in a KV cache block of torch."
    )
    kv_cache_bytes: int | None = Field(
        default=None, ge=MEBIBYTE, description="Size of the KV cache; by default from free memory."
    )
    tensor_parallel_size: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that compute the model together on torch, each on its own device.",
    )

    @model_validator(mode="after")
    def _rows_fit_in_a_step(self) -> Self:
        if self.max_rows > self.max_step_tokens:
            raise ValueError(
                f"max_rows ({self.max_rows}) must not exceed max_step_tokens "
                f"({self.max_step_tokens}): each row computes one token a step"
            )
        return self

    @model_validator(mode="after")
    def _default_time_is_allowed(self) -> Self:
        default, longest = self.timeout_seconds, self.max_timeout_seconds
        if default is not None and longest is not None and default > longest:
            raise ValueError(
                f"timeout_seconds ({default:g}) must not exceed max_timeout_seconds ({longest:g})"
            )
        return self

    @property
    def engine_config(self) -> EngineConfig:
        """What the engine needs of the settings."""
        return EngineConfig(
            max_rows=self.max_rows,
            max_step_tokens=self.max_step_tokens,
            max_waiting_requests=self.max_waiting_requests,
            seconds_per_priority=self.seconds_per_priority,
            block_size=self.block_size,
            kv_cache_bytes=self.kv_cache_bytes,
            num_threads=self.threads,
        )
