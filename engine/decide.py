"""One group's decision, with its failures kept to itself.

Strategies and stop checks may come from other packages, so whatever they raise, and whatever
impossible decision they make, ends their own request and no other.
"""

import logging
from collections.abc import Sequence

from decoding.base import Candidate, Decision
from engine.errors import DecodingFailed
from engine.sequence import Group

logger = logging.getLogger(__name__)


def decide(group: Group, found: Sequence[Sequence[Candidate]]) -> Decision | DecodingFailed:
    """Let the group's decoder continue it with the candidates `found` for each of its rows."""
    strategy = group.request.strategy.name
    if not all(found):
        return DecodingFailed("the model's logits for this request are not finite")
    try:
        decision = group.decoder.advance(group.rows, found)
        _ = group.decoder.ask  # computed here, where its failure harms nobody else
    except Exception as error:
        logger.exception("strategy %s failed", strategy)
        return DecodingFailed(f"strategy {strategy} failed: {type(error).__name__}")
    problem = _impossible(group, decision)
    if problem is not None:
        return DecodingFailed(f"strategy {strategy} {problem}")
    return decision


def _impossible(group: Group, decision: Decision) -> str | None:
    if len(decision.live) > group.num_reserved_rows:
        return f"continued {len(decision.live)} rows, more than it announced"
    if any(not 0 <= child.parent < len(group.rows) for child in decision.live):
        return "continued a row that does not exist"
    if not decision.live and len(decision.results) != group.request.strategy.num_results:
        return f"ended with {len(decision.results)} sequences, not as many as it announced"
    return None
