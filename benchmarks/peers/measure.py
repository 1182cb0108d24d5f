"""Takes turns: in every round each peer does every scenario once, in an order that rotates.

So all of them see the machine in all of its moods, and a ratio is one of neighbours in time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.peers.peers import MakePeer
from benchmarks.peers.scenarios import Scenario
from benchmarks.peers.turn import Peer, PeerFailed

Tell = Callable[[str], None]
WARM_UP_SEED = 10**6


@dataclass(slots=True)
class Measured:
    """Tokens a second of each round, by peer and scenario, and what could not be measured."""

    speeds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)  # by peer: how an answer begins
    failures: dict[str, str] = field(default_factory=dict)  # by peer, or peer and scenario


def measure(
    makers: Mapping[str, MakePeer],
    scenarios: Mapping[str, Scenario],
    *,
    num_rounds: int,
    tell: Tell,
) -> Measured:
    """Measure all peers; one that fails is noted and left out from then on."""
    measured = Measured()
    peers: dict[str, Peer] = {}
    try:
        for name, make in makers.items():
            tell(f"starting {name}")
            _start(name, make, peers, measured)
        for at in range(-1, num_rounds):  # the first round warms up
            names = list(peers)
            start = max(at, 0) % max(len(names), 1)
            for scenario_name, scenario in scenarios.items():
                for name in [*names[start:], *names[:start]]:
                    tell(f"round {at + 1} of {num_rounds}: {scenario_name}, {name}")
                    _take_turn(peers[name], scenario_name, scenario, at, measured)
        for name, peer in peers.items():
            measured.memory_bytes[name] = peer.memory_bytes()
    finally:
        for peer in peers.values():
            peer.close()
    return measured


def _start(name: str, make: MakePeer, peers: dict[str, Peer], measured: Measured) -> None:
    try:
        peer = make()
        peers[name] = peer
        peer.start()
    except PeerFailed as error:
        measured.failures[name] = str(error)
        if name in peers:
            peers.pop(name).close()


def _take_turn(
    peer: Peer, scenario_name: str, scenario: Scenario, at: int, measured: Measured
) -> None:
    key = f"{peer.name}, {scenario_name}"
    if key in measured.failures:
        return
    seed = WARM_UP_SEED if at < 0 else at
    try:
        turn = peer.take_turn(scenario.requests(seed), scenario.concurrency)
    except PeerFailed as error:
        measured.failures[key] = str(error)
        return
    if not scenario.is_prefill:
        measured.samples.setdefault(peer.name, " ".join(turn.text.split())[:60])
    if at >= 0:
        speed = turn.tokens_per_second(is_prefill=scenario.is_prefill)
        measured.speeds.setdefault((peer.name, scenario_name), []).append(speed)


def ratios(measured: Measured, ours: str, theirs: str, scenario: str) -> Sequence[float]:
    """How many times as fast we were, round by round."""
    pairs = zip(
        measured.speeds.get((ours, scenario), ()),
        measured.speeds.get((theirs, scenario), ()),
        strict=False,
    )
    return [one / other for one, other in pairs]
