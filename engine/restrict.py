"""One group's restrictions: which tokens its request's grammar lets follow each of its rows.

A constraint comes from outside the engine, so whatever it raises ends its own request and no other.
"""

import logging
from collections.abc import Iterable

import numpy as np

from decoding.base import DecodingRow
from decoding.constraint import ConstraintFailed, PackedTokens, TokenConstraint
from engine.errors import ConstraintNotMet, DecodingFailed
from engine.sequence import Group

logger = logging.getLogger(__name__)


def restrict(group: Group, places: Iterable[DecodingRow]) -> list[PackedTokens] | DecodingFailed:
    """The tokens allowed at each place, none listed where all are; or why nobody can say.

    The places are the group's rows, and these after each of their drafts.
    """
    constraint = group.request.constraint
    if constraint is None:
        return []
    try:
        return [_allowed_after(place, group, constraint) for place in places]
    except ConstraintFailed as error:
        return ConstraintNotMet(str(error))
    except Exception as error:
        logger.exception("a constraint failed")
        return DecodingFailed(f"the request's constraint failed: {type(error).__name__}")


def _allowed_after(place: DecodingRow, group: Group, constraint: TokenConstraint) -> PackedTokens:
    """What may follow a row; anything after its end, which a row may carry until it is chosen."""
    ids = place.generated_ids
    if ids and ids[-1] in group.request.eos_token_ids:
        return np.full_like(constraint.allowed(()), np.iinfo(np.uint32).max)
    return constraint.allowed(ids)
