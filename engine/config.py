"""The engine's settings, narrowed from the service's. Frozen; nobody writes into it later."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Bounds of a step, of the cache and of the queue.

    Raises:
        ValueError: a bound is below 1, a step of priority puts nothing back, or a step cannot hold
            one token of every row.
    """

    max_rows: int = 64  # sequences in one step
    max_step_tokens: int = 512  # tokens computed in one step: decodes first, then prompt chunks
    max_waiting_requests: int = 256
    block_size: int = 16  # tokens in a block of the KV cache
    seconds_per_priority: float = 60.0  # by how much one step of priority puts a request back
    kv_cache_bytes: int | None = None  # None: chosen from the free memory of the device
    kv_cache_share: float = 1.0  # of these bytes: another model's cache has the rest
    num_threads: int | None = None  # that compute on a CPU; None: what the runtime chooses

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_waiting_requests", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0.0 < self.kv_cache_share <= 1.0:
            raise ValueError("kv_cache_share must be above 0 and at most 1")
        if not self.seconds_per_priority > 0:
            raise ValueError("seconds_per_priority must be more than 0")
        if self.max_step_tokens < self.max_rows:
            raise ValueError(
                f"max_step_tokens ({self.max_step_tokens}) must be at least max_rows "
                f"({self.max_rows}), so that every running sequence gets a token in every step"
            )
