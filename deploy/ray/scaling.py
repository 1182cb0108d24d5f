"""How many replicas there should be: Ray calls `queue_depth_policy` a few times a minute.

Two things ask for more: requests at work and waiting, counted by Ray, and what the engines' own
queues hold, which `Replica.record_autoscaling_stats` reports: a request may be many texts, or
many beams. Ray applies delays, bounds and factors of its configuration to what this returns.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

WAITING_REQUESTS = "waiting_requests"


def queue_depth_policy(context: "AutoscalingContext") -> tuple[float, dict[str, object]]:
    """The number of replicas that the present load needs, not rounded."""
    target = context.config.get_target_ongoing_requests()
    by_requests = context.total_num_requests / target
    waiting = sum((context.aggregated_metrics or {}).get(WAITING_REQUESTS, {}).values())
    return replicas_needed(
        by_requests=by_requests,
        waiting=waiting,
        current=context.current_num_replicas,
        target=target,
    ), {}


def replicas_needed(*, by_requests: float, waiting: float, current: int, target: float) -> float:
    """By requests; and if some wait, at least one more than there are, and room for all of them.

    Less than one that waits on average is not a queue but arrivals between two steps.
    """
    if waiting < 1.0:
        return by_requests
    return max(by_requests, current + math.ceil(waiting / target))
