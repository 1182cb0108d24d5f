"""Turns are taken in rotation, failures cost only themselves, and ratios are of neighbours."""

import pytest

from benchmarks.peers.measure import Measured, measure, ratios
from benchmarks.peers.scenarios import SCENARIOS, Scenario
from benchmarks.peers.summary import summarise
from benchmarks.peers.turn import PeerFailed, Turn

FEW = {
    "few": Scenario(concurrency=1, num_requests=1, prompt_words=4, new_tokens=8),
    "prefill": Scenario(concurrency=1, num_requests=1, prompt_words=9, new_tokens=1),
}


class CountingPeer:
    """A peer that takes a second for each prompt word and does as it was told."""

    def __init__(self, name, log, *, failure=None, failing_start=False):
        self.name, self.log, self.failure = name, log, failure
        self.failing_start, self.is_closed = failing_start, False

    def start(self):
        if self.failing_start:
            raise PeerFailed("no such program")

    def take_turn(self, requests, _concurrency):
        self.log.append((self.name, requests[0].max_new_tokens, requests[0].text))
        if self.failure == requests[0].max_new_tokens:
            raise PeerFailed("it died")
        words = sum(len(request.text.split()) for request in requests)
        new = sum(request.max_new_tokens for request in requests)
        return Turn(seconds=2.0, num_prompt_tokens=words, num_new_tokens=new, text=self.name)

    def memory_bytes(self):
        return 2**21

    def close(self):
        self.is_closed = True


def take_turns(**options):
    log = []
    peers = {name: CountingPeer(name, log, **extra) for name, extra in options.items()}
    makers = {name: (lambda peer=peer: peer) for name, peer in peers.items()}
    measured = measure(makers, FEW, num_rounds=2, tell=lambda _: None)
    assert all(peer.is_closed for peer in peers.values())
    return measured, log


def test_each_peer_does_each_scenario_once_a_round_after_a_warm_up():
    measured, log = take_turns(a={}, b={})
    assert measured.speeds[("a", "few")] == [4.0, 4.0]
    assert measured.speeds[("b", "prefill")] == [4.5, 4.5]
    assert [name for name, new, _ in log if new == 8] == ["a", "b", "a", "b", "b", "a"]
    prompts = [text for name, new, text in log if (name, new) == ("a", 8)]
    assert len(set(prompts)) == 3
    assert prompts == [text for name, new, text in log if (name, new) == ("b", 8)]


def test_a_failure_is_noted_and_costs_nothing_else():
    measured, _ = take_turns(a={"failure": 8}, b={}, c={"failing_start": True})
    assert measured.failures == {"a, few": "it died", "c": "no such program"}
    assert ("a", "few") not in measured.speeds
    assert len(measured.speeds[("a", "prefill")]) == len(measured.speeds[("b", "few")]) == 2


def test_ratios_are_of_the_same_round():
    measured = Measured(speeds={("a", "few"): [2.0, 9.0], ("b", "few"): [1.0, 3.0]})
    assert ratios(measured, "a", "b", "few") == [2.0, 3.0]


def test_the_summary_shows_medians_spreads_and_failures():
    measured = Measured(
        speeds={("a", "few"): [2.0, 4.0, 9.0], ("b", "few"): [1.0, 2.0, 3.0]},
        memory_bytes={"a": 2**20},
        failures={"c": "no such program"},
    )
    text = summarise(measured, ["few"], "a")
    assert "| a | 4 [2 - 9] | 1 |" in text
    assert "| b | 2.00 [2.00 - 3.00] |" in text
    assert "- c: no such program" in text


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_ask_what_they_say(name):
    scenario = SCENARIOS[name]
    made = scenario.requests(seed=1)
    assert len(made) == scenario.num_requests >= scenario.concurrency
    assert all(request.max_new_tokens == scenario.new_tokens for request in made)
    assert all(len(request.text.split()) == scenario.prompt_words for request in made)
    assert made != scenario.requests(seed=2)
