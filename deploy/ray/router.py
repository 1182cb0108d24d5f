"""Chooses the replica of a request: that which has its prefix, unless that one is far behind.

Ray Serve makes one of it in each front (`RequestRouterConfig`). The ring of Ray's own router for
sessions says which replica a key belongs to and who comes after it; so a replica that comes or
goes moves only its share of the keys. What this adds is the key, made from the prompt
(`affinity.py`), and the look at the load: what this front has sent and is not answered yet. Ray's
own counts, which it asks replicas for, may be ten seconds old where there are several fronts.
"""

from collections import Counter

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.request_router import PendingRequest, ReplicaID, RunningReplica

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
        self._at_work: Counter[ReplicaID] = Counter()  # requests that this front has sent
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
        willing = _willing(candidate_replicas, call)
        lengths = {each.replica_id: self._at_work[each.replica_id] for each in willing}
        limit = min(lengths.values(), default=0) + self._max_lead
        near = [rank for rank in ranks if _is_near(rank, lengths, limit)]
        return [*near, willing]

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Ray sends a request there."""
        super().on_send_request(replica_id)
        self._at_work[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """It is over, however it went. Ray also tells of some that it could not send."""
        super().on_request_completed(replica_id, internal_request_id)
        self._at_work[replica_id] -= 1
        if self._at_work[replica_id] <= 0:
            del self._at_work[replica_id]


def _call_of(pending_request: PendingRequest | None) -> HttpCall | None:
    arguments = () if pending_request is None else pending_request.args
    return next((each for each in arguments if isinstance(each, HttpCall)), None)


def _willing(candidates: list[RunningReplica], call: HttpCall | None) -> list[RunningReplica]:
    """Those that have not declined the call; all, if all have."""
    avoided: frozenset[str] = frozenset() if call is None else call.avoided
    return [each for each in candidates if each.replica_id.unique_id not in avoided] or candidates


def _is_near(rank: list[RunningReplica], lengths: dict[ReplicaID, int], limit: int) -> bool:
    return all(lengths.get(each.replica_id, limit + 1) <= limit for each in rank)
