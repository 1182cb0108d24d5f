"""What makes two requests the same, so that one answer serves both.

`preparation.py` makes a key of each request that may be cached; the response cache, the cache that
replicas share and the generator look answers up by it.
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version

from app.text.grammar.spec import GrammarSpec
from app.text.request import TextRequest
from engine.messages import NegativePrompt
from engine.trace import TraceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which weights, computed by what. Part of every cache key."""

    name: str
    revision: str
    runtime: str

    @property
    def fingerprint(self) -> str:
        """One word for all that decides the tokens of a request besides the request itself."""
        whole = "\n".join((self.name, self.revision, self.runtime, version("beamline")))
        return "fp_" + hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """Everything that decides which tokens come out, and nothing of how they are presented."""

    model: ModelIdentity
    prompt_ids: tuple[int, ...]
    strategy: str
    parameters: tuple[tuple[str, str], ...]  # names and how their values are written
    max_new_tokens: int
    stop: tuple[str, ...]
    keeps_stop: bool
    adjustments: tuple[tuple[str, object], ...]  # those asked for, by name
    grammar: GrammarSpec | None
    guidance: NegativePrompt | None
    top_logprobs: int
    prompt_logprobs: int | None
    trace: TraceOptions | None
    seed: int | None  # None where it does not matter, or where any will do
    tenant: bytes | None = None  # the API key's digest; None: everybody shares


def key_of(
    request: TextRequest,
    *,
    model: ModelIdentity,
    prompt_ids: tuple[int, ...],
    max_new_tokens: int,
    guidance: NegativePrompt | None,
    grammar: GrammarSpec | None,
) -> CacheKey:
    """The key of a request with all that was found out about it."""
    strategy = request.strategy
    return CacheKey(
        model=model,
        prompt_ids=prompt_ids,
        strategy=strategy.name,
        parameters=tuple((n, repr(v)) for n, v in request.strategy_parameters.items()),
        max_new_tokens=max_new_tokens,
        stop=tuple(sorted(request.stop)),
        keeps_stop=request.keeps_stop,
        adjustments=tuple(request.adjustments.asked_for.items()),
        grammar=grammar,
        guidance=guidance,
        top_logprobs=request.top_logprobs,
        prompt_logprobs=request.prompt_logprobs,
        trace=request.trace,
        seed=None if strategy.is_deterministic else request.seed,
    )
