"""Requests of every kind that the dashboard tells apart, and a count of what they came to."""

from collections import Counter
from dataclasses import dataclass, field

import httpx

STRATEGIES = (
    {"strategy": "greedy"},
    {"strategy": "sample", "temperature": 1.3, "seed": 1},
    {"strategy": "beam", "num_beams": 3},
    {"strategy": "contrastive"},
)
PREFIX = "The sea is wide and the ships are small. " * 4  # longer than a block of the KV cache
NUM_TOKENS = 6
NUM_GUESSED_TOKENS = 48  # a greedy text of the tiny model repeats itself by then
NUM_HITS = 2  # of the response cache, in a round


@dataclass(slots=True)
class Counts:
    """What the clients have seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    num_hits: int = 0
    num_greedy_tokens: int = 0  # that were generated, not taken from the cache
    num_rounds: int = 0


class Traffic:
    """Sends rounds of requests: most with a key, one without, some with a key of few requests."""

    def __init__(self, url: str, *, key: str, limited_key: str) -> None:
        self.counts = Counts()
        self._client = httpx.Client(base_url=url, timeout=60.0)
        self._key, self._limited_key = key, limited_key

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send_round(self) -> None:
        """Requests that no round before has sent, so that the cache has none of their answers."""
        self.counts.num_rounds += 1
        name = f"Round {self.counts.num_rounds}."
        for strategy in STRATEGIES:
            self._post("/generate", 200, text=f"{name} Beams", **strategy)
        for _ in range(NUM_HITS):
            self._post("/generate", 200, text=f"{name} Beams", strategy="greedy")
            self.counts.num_hits += 1
        for ending in ("Night", "Light"):
            self._post("/generate", 200, text=f"{PREFIX}{name} {ending}", strategy="greedy")
        self._post("/generate/stream", 200, text=f"{name} Streams", strategy="greedy")
        guessed = {"prompt_lookup_num_tokens": 3, "max_new_tokens": NUM_GUESSED_TOKENS}
        self._post("/generate", 200, text=f"{name} Guesses", strategy="greedy", **guessed)
        self.counts.num_greedy_tokens += 4 * NUM_TOKENS + NUM_GUESSED_TOKENS
        self._post("/generate", 422, text=name, temperature="hot")
        self._post("/generate", 401, key="nobody's", text=name)
        self._post("/nowhere", 404)
        # The first of these may still be answered: what matters is that another is refused.
        answers = [self._send("/generate", self._limited_key, {"text": name}) for _ in range(2)]
        assert answers[-1].status_code == 429, answers[-1].text

    def _post(self, path: str, status: int, key: str | None = None, **body: object) -> None:
        answer = self._send(path, key or self._key, body)
        assert answer.status_code == status, answer.text

    def _send(self, path: str, key: str, body: dict[str, object]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        answer = self._client.post(
            path, json={"max_new_tokens": NUM_TOKENS} | body, headers=headers
        )
        self.counts.statuses[str(answer.status_code)] += 1
        return answer
