"""What the routes below `/admin` take and give."""

from pydantic import Field

from app.bodies.response_model import ResponseModel
from app.bodies.strict_model import StrictModel
from app.setting_groups.server import LogLevel


class ResponseCacheReport(ResponseModel):
    """The response cache."""

    entries: int = Field(description="Answers held.")
    max_entries: int
    bytes: int = Field(description="Memory they take.")
    max_bytes: int


class SharedCacheReport(ResponseModel):
    """The part of the response cache that replicas share, as this one has found it so far."""

    state: str = Field(
        description="closed: Redis is asked. open: it has failed and is left alone. half_open: it "
        "is being tried again."
    )
    lookups: dict[str, int] = Field(
        description="hit, miss, error (Redis failed, or not in time), skipped (left alone)."
    )
    writes: dict[str, int] = Field(description="stored, error, skipped, dropped, too_large.")
    damaged_entries: int = Field(description="Found in Redis, not ours, and removed.")
    pending_writes: int = Field(description="Answers still to be stored.")


class PrefixCacheReport(ResponseModel):
    """The keys and values of prompts that are kept for the next ones that begin alike."""

    tokens_in_use: int = Field(description="By requests that run.")
    max_tokens: int
    queried_tokens: int = Field(description="Prompt tokens looked up since the start.")
    hit_tokens: int = Field(description="Of these, those that were there.")


class CacheReport(ResponseModel):
    """All caches."""

    response_cache: ResponseCacheReport
    shared_cache: SharedCacheReport | None = Field(description="null without a Redis.")
    prefix_cache: PrefixCacheReport


class CacheCleared(ResponseModel):
    """What was dropped of this replica's response cache; a shared one does not count its own."""

    entries: int
    bytes: int


class ProcessMemoryReport(ResponseModel):
    """Main memory, in bytes."""

    resident_bytes: int = Field(description="Of this process.")
    peak_bytes: int = Field(description="The most it ever held.")
    available_bytes: int = Field(
        description="What it could still take, within the limit of its container."
    )


class DeviceMemoryReport(ResponseModel):
    """Memory of the accelerator, in bytes."""

    allocated_bytes: int = Field(description="In tensors.")
    reserved_bytes: int = Field(description="Held by the allocator, what is allocated included.")
    peak_bytes: int = Field(description="The most that was ever allocated.")
    total_bytes: int


class MemoryReport(ResponseModel):
    """Memory of the process and of the device that computes."""

    process: ProcessMemoryReport
    device: DeviceMemoryReport | None = Field(description="null on a CPU.")


class MemoryReleased(ResponseModel):
    """Memory before and after spare pieces were handed back."""

    before: MemoryReport
    after: MemoryReport


class DrainReport(ResponseModel):
    """Whether the service takes requests."""

    status: str
    reason: str
    num_in_flight: int = Field(description="Generations that somebody still waits for.")
    may_resume: bool = Field(description="Whether `DELETE /admin/drain` ends the drain.")


class LogLevelBody(StrictModel):
    """The least important lines that are logged."""

    log_level: LogLevel
