"""Replicas that batch continuously, in virtual time.

As in the engine, a step takes a token of every running sequence, then prompts in the order of
arrival within the step's token budget; whoever's prompt is read to its end gets the first token
with that step. A request that finds the queue full is refused. What a step takes, `costs.py` says.
A step costs the simulation little whatever its batch: sequences are kept by the step they end in.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.fleet.costs import StepCosts
from benchmarks.fleet.outcome import Outcome, Served
from benchmarks.fleet.policies import Policy
from benchmarks.fleet.workload import Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLimits:
    """Of one replica; the defaults are the service's."""

    max_rows: int = 64
    max_step_tokens: int = 512
    max_waiting_requests: int = 256
    max_prefixes: int = 64  # beginnings that fit into the KV cache beside the batch


@dataclass(slots=True)
class _Reading:
    """A request whose prompt is being read."""

    arrival: Arrival
    begun_at: float
    tokens_left: int


@dataclass(slots=True)
class _Writing:
    """A request that has tokens."""

    arrival: Arrival
    begun_at: float
    first_token_at: float


@dataclass(slots=True)
class _Replica:
    """One replica. Written by `Simulation` alone."""

    costs: StepCosts
    limits: ReplicaLimits
    waiting: deque[Arrival] = field(default_factory=deque)
    reading: deque[_Reading] = field(default_factory=deque)
    ending: dict[int, list[_Writing]] = field(default_factory=dict)  # by the step they end in
    num_writing: int = 0
    step: int = 0  # the number of the one that runs, or ran last
    is_running: bool = False
    finishing: list[_Reading] = field(default_factory=list)  # prompts that this step reads out
    prefixes: OrderedDict[int, None] = field(default_factory=OrderedDict)
    busy_seconds: float = 0.0

    @property
    def num_requests(self) -> int:
        """Requests at work and waiting."""
        return len(self.waiting) + len(self.reading) + len(self.finishing) + self.num_writing

    def take(self, arrival: Arrival) -> bool:
        """Queue a request; False: there is no room."""
        if len(self.waiting) >= self.limits.max_waiting_requests:
            return False
        self.waiting.append(arrival)
        return True

    def begin_step(self, now: float) -> float | None:
        """Plan the next step; returns when it ends, or None if there is nothing to do."""
        self._admit(now)
        budget = self.limits.max_step_tokens - self.num_writing
        num_prompt_tokens = 0
        while self.reading and budget > num_prompt_tokens:
            first = self.reading[0]
            taken = min(first.tokens_left, budget - num_prompt_tokens)
            first.tokens_left -= taken
            num_prompt_tokens += taken
            if first.tokens_left == 0:
                self.finishing.append(self.reading.popleft())
        self.is_running = bool(num_prompt_tokens or self.num_writing)
        if not self.is_running:
            return None
        self.step += 1
        seconds = self.costs.step_seconds(self.num_writing, num_prompt_tokens)
        self.busy_seconds += seconds
        return now + seconds

    def end_step(self, now: float) -> list[Served]:
        """Hand out the step's tokens; returns the requests that have all of theirs."""
        for read in self.finishing:
            writing = _Writing(read.arrival, read.begun_at, now)
            last = self.step + read.arrival.new_tokens - 1
            self.ending.setdefault(last, []).append(writing)
            self.num_writing += 1
        self.finishing.clear()
        ended = self.ending.pop(self.step, [])
        self.num_writing -= len(ended)
        return [
            Served(
                arrived_at=each.arrival.at,
                begun_at=each.begun_at,
                first_token_at=each.first_token_at,
                ended_at=now,
                new_tokens=each.arrival.new_tokens,
            )
            for each in ended
        ]

    def _admit(self, now: float) -> None:
        room = self.limits.max_rows - self.num_writing - len(self.reading)
        while self.waiting and room > 0:
            arrival = self.waiting.popleft()
            known = arrival.prefix_tokens if self._has_seen(arrival.prefix) else 0
            unread = max(arrival.prompt_tokens - known, 1)  # the last token is read in any case
            self.reading.append(_Reading(arrival, now, unread))
            room -= 1

    def _has_seen(self, prefix: int | None) -> bool:
        if prefix is None:
            return False
        is_known = prefix in self.prefixes
        self.prefixes[prefix] = None
        self.prefixes.move_to_end(prefix)
        if len(self.prefixes) > self.limits.max_prefixes:
            self.prefixes.popitem(last=False)
        return is_known


def simulate(
    arrivals: Iterable[Arrival],
    *,
    num_replicas: int,
    costs: StepCosts,
    policy: Policy,
    limits: ReplicaLimits | None = None,
) -> Outcome:
    """Serve a load to its end."""
    limits = limits or ReplicaLimits()
    replicas = [_Replica(costs, limits) for _ in range(num_replicas)]
    ends: list[tuple[float, int]] = []  # of the steps that run, with their replica
    served: list[Served] = []
    num_refused, now = 0, 0.0

    def finish_until(moment: float) -> None:
        nonlocal now
        while ends and ends[0][0] <= moment:
            now, at = heapq.heappop(ends)
            served.extend(replicas[at].end_step(now))
            _start(replicas[at], at, now, ends)

    for arrival in arrivals:
        finish_until(arrival.at)
        now = arrival.at
        at = policy.choose(arrival, replicas)
        if not replicas[at].take(arrival):
            num_refused += 1
        elif not replicas[at].is_running:
            _start(replicas[at], at, now, ends)
    finish_until(float("inf"))
    return Outcome(
        served=served,
        num_refused=num_refused,
        seconds=now,
        num_replicas=num_replicas,
        busy_seconds=sum(replica.busy_seconds for replica in replicas),
    )


def _start(replica: _Replica, at: int, now: float, ends: list[tuple[float, int]]) -> None:
    if (end := replica.begin_step(now)) is not None:
        heapq.heappush(ends, (end, at))
