"""Whether a request could ever run on an engine; `Engine.check` asks before it is queued.

The app has said no already, more kindly, to most of what is refused here.
"""

from decoding.base import has_independent_rows
from engine.errors import RequestRefused, RequestTooLarge
from engine.kv_cache import KVCache
from engine.messages import EngineLimits, GenerationRequest


def check_request(request: GenerationRequest, limits: EngineLimits, cache: KVCache) -> None:
    """Refuse a request that could never run.

    Raises:
        RequestTooLarge: with the numbers that do not fit.
        RequestRefused: it wants drafts or scores that are not to be had here.
    """
    num_rows = request.num_rows
    if num_rows > limits.max_rows:
        raise RequestTooLarge(
            f"{num_rows} sequences at once exceed the {limits.max_rows} rows of a step; "
            "ask for fewer"
        )
    _check_abilities(request, limits)
    num_tokens = request.max_num_tokens
    if num_tokens > limits.context_length:
        raise RequestTooLarge(
            f"{num_tokens - request.max_new_tokens} prompt tokens and {request.max_new_tokens} "
            f"new ones exceed the model's context of {limits.context_length} tokens; ask "
            "for fewer"
        )
    needed = cache.max_tokens_of(num_rows, num_tokens)
    if needed > cache.max_tokens:
        raise RequestTooLarge(
            f"{num_rows} sequences of {num_tokens} tokens need {needed} tokens of cache; "
            f"it holds {cache.max_tokens}; ask for fewer sequences, or for fewer new tokens"
        )


def _check_abilities(request: GenerationRequest, limits: EngineLimits) -> None:
    """Refuse what needs logits after several tokens of a row where there are none."""
    if request.takes_drafts and not has_independent_rows(request.strategy):
        raise RequestRefused(f"strategy {request.strategy.name} cannot be sped up by drafts")
    if request.takes_drafts and request.guidance is not None:
        raise RequestRefused("a guided request cannot be sped up by drafts")
    if request.num_speculative_tokens > 0 and not limits.has_draft_model:
        raise RequestRefused("there is no draft model")
    if request.needs_hidden_states and not limits.has_hidden_states:
        raise RequestRefused("this runtime gives no hidden states")
    if limits.has_all_logits:
        return
    if request.takes_drafts:
        raise RequestRefused("this runtime decides one token of a row at a time: no drafts")
    if request.scored_from is not None:
        raise RequestRefused("this runtime gives no log-probabilities of prompt tokens")
