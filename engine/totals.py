"""What an engine has done since its start, and the snapshot that is made of it.

Counted by `engine.py`, on whose thread it lives; others read the frozen `EngineStats`.
"""

from dataclasses import dataclass

from engine.messages import EngineStats
from engine.runner import Runner
from engine.scheduler import Scheduler
from engine.sequence import num_reserved


@dataclass(slots=True)
class Totals:
    """Running totals since the start. Written to by the engine only."""

    num_steps: int = 0
    num_step_rows: int = 0
    num_step_tokens: int = 0
    num_prompt_tokens: int = 0
    num_prompt_tokens_from_cache: int = 0
    num_generated_tokens: int = 0
    num_draft_tokens: int = 0
    num_accepted_draft_tokens: int = 0
    num_cancellations: int = 0
    num_failures: int = 0
    num_queue_timeouts: int = 0
    num_timeouts: int = 0
    forward_seconds: float = 0.0

    def stats(self, scheduler: Scheduler, runner: Runner, draft_seconds: float) -> EngineStats:
        """The totals, and the gauges of this moment."""
        return EngineStats(
            num_running_sequences=sum(len(group.rows) for group in scheduler.running),
            num_running_requests=len(scheduler.running),
            num_waiting_requests=len(scheduler.waiting),
            num_waiting_sequences=num_reserved(scheduler.waiting),
            num_cached_tokens=runner.cache.num_used_tokens,
            max_cached_tokens=runner.cache.max_tokens,
            num_steps=self.num_steps,
            num_step_rows=self.num_step_rows,
            num_step_tokens=self.num_step_tokens,
            num_prompt_tokens=self.num_prompt_tokens,
            num_prompt_tokens_from_cache=self.num_prompt_tokens_from_cache,
            num_generated_tokens=self.num_generated_tokens,
            num_draft_tokens=self.num_draft_tokens,
            num_accepted_draft_tokens=self.num_accepted_draft_tokens,
            num_preemptions=scheduler.num_preemptions,
            num_cancellations=self.num_cancellations,
            num_failures=self.num_failures,
            num_queue_timeouts=self.num_queue_timeouts,
            num_timeouts=self.num_timeouts,
            forward_seconds=self.forward_seconds,
            draft_seconds=draft_seconds,
            device_memory_bytes=runner.device_memory_bytes,
        )
