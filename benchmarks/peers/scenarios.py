"""What is measured: how many streams at once, and how long prompts and answers are."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.load.workload import Mix, PromptRequest, make_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Requests that are all there from the beginning, `concurrency` of them at a time."""

    concurrency: int
    num_requests: int
    prompt_words: int  # about a token each
    new_tokens: int

    @property
    def is_prefill(self) -> bool:
        """Whether reading the prompt is what takes the time."""
        return self.new_tokens == 1

    def requests(self, seed: int) -> list[PromptRequest]:
        """Requests of one turn; with another seed no prompt begins like an earlier one."""
        prompt, answer = (Mix(((n, n),), (1.0,)) for n in (self.prompt_words, self.new_tokens))
        return make_requests(self.num_requests, prompt=prompt, answer=answer, seed=seed)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "1 stream": Scenario(concurrency=1, num_requests=2, prompt_words=32, new_tokens=128),
        "8 streams": Scenario(concurrency=8, num_requests=8, prompt_words=32, new_tokens=128),
        "32 streams": Scenario(concurrency=32, num_requests=32, prompt_words=32, new_tokens=128),
        "prefill": Scenario(concurrency=1, num_requests=2, prompt_words=1000, new_tokens=1),
    }
)
