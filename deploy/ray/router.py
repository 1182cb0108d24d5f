"""Chooses the replica of a request: that which has its prefix, unless that one is far behind.

Ray Serve makes one of it in each front (`RequestRouterConfig`). The ring of Ray's own router for
sessions says which replica a key belongs to and who comes after it; so a replica that comes or
goes moves only its share of the keys. What this adds is the key, made from the prompt
(`affinity.py`), and the look at the load.
"""

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.request_router import PendingRequest, RunningReplica

from deploy.ray.call import HttpCall

DEFAULT_MAX_LEAD = 16


class AffinityRouter(ConsistentHashRouter):
    """Ray's consistent hashing by the prefix of a prompt, bounded by load."""

    def initialize_state(self, **kwargs: object) -> None:
        """Take `max_lead`, and what the router for sessions takes."""
        lead = kwargs.get("max_lead", DEFAULT_MAX_LEAD)
        if not isinstance(lead, int) or lead < 0:
            raise ValueError(f"max_lead must be a whole number, 0 or more; it is {lead!r}")
        self._max_lead = lead
        super().initialize_state(**kwargs)

    def _routing_key(self, pending_request: PendingRequest | None) -> str | None:
        call = _call_of(pending_request)
        if call is None or call.affinity_key is None:
            return None
        return call.affinity_key.hex()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas; of a rank Ray takes the one with the fewest requests."""
        call = _call_of(pending_request)
        if call is not None and call.replica is not None:
            named = [
                each for each in candidate_replicas if each.replica_id.unique_id == call.replica
            ]
            return [named or candidate_replicas]  # who is not the one that is named says so
        ranks = await super().choose_replicas(candidate_replicas, pending_request)
        lengths = {each.replica_id: self._load(each) for each in candidate_replicas}
        limit = min(lengths.values(), default=0) + self._max_lead
        near = [
            rank for rank in ranks if any(lengths.get(each.replica_id, 0) <= limit for each in rank)
        ]
        return [*near, candidate_replicas]

    def _load(self, replica: RunningReplica) -> int:
        """Requests that it has, as far as this router knows."""
        return self.replica_queue_len_cache.get(replica.replica_id) or 0


def _call_of(pending_request: PendingRequest | None) -> HttpCall | None:
    arguments = () if pending_request is None else pending_request.args
    return next((each for each in arguments if isinstance(each, HttpCall)), None)
