"""One group's restrictions: which tokens its request's grammar lets follow each of its rows.

A constraint comes from outside the engine, so whatever it raises ends its own request and no other.
"""

import logging
from collections.abc import Iterable

from decoding.base import DecodingRow
from decoding.constraint import ConstraintFailed, PackedTokens
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
        return [constraint.allowed(place.generated_ids) for place in places]
    except ConstraintFailed as error:
        return ConstraintNotMet(str(error))
    except Exception as error:
        logger.exception("a constraint failed")
        return DecodingFailed(f"the request's constraint failed: {type(error).__name__}")
