"""One group's restrictions: which tokens its request's grammar lets follow each of its rows.

A constraint comes from outside the engine, so whatever it raises ends its own request and no other.
"""

import logging

from decoding.constraint import ConstraintFailed, PackedTokens
from engine.errors import ConstraintNotMet, DecodingFailed
from engine.sequence import Group

logger = logging.getLogger(__name__)


def restrict(group: Group) -> list[PackedTokens | None] | DecodingFailed:
    """The allowed tokens of each row, None for all of them; or why nobody can say."""
    constraint = group.request.constraint
    if constraint is None:
        return [None] * len(group.rows)
    try:
        return [constraint.allowed(row.generated_ids) for row in group.rows]
    except ConstraintFailed as error:
        return ConstraintNotMet(str(error))
    except Exception as error:
        logger.exception("a constraint failed")
        return DecodingFailed(f"the request's constraint failed: {type(error).__name__}")
