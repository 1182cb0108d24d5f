"""Every strategy with every feature: it works, or it is refused for the reason in the docs."""

from pathlib import Path

import pytest

from decoding.registry import STRATEGIES
from tests.app.pairs.features import FEATURES, Refused
from tests.app.pairs.table import REFUSED, render

FORCED = {"JSON schema": "true", "regex": "a", "logit bias": "f", "penalties": "e"}
"""Words that leave `constrained_beam` a way where a grammar or a bias is narrow."""
DOCS = Path(__file__).parents[3] / "docs" / "pairs.md"


def way_of(strategy: str, feature: str) -> dict[str, object]:
    """The strategy's name and the fields that make it what it is."""
    own = {
        "constrained_beam": {"force_words": [FORCED.get(feature, "g")]},
        "contrastive": {"penalty_alpha": 0.1},  # more of it outweighs what the features do
        "dola": {"do_sample": True} if feature == "n > 1" else {},
    }
    return {"strategy": strategy, **own.get(strategy, {})}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_pair_works_or_says_why_not(service, strategy, feature):
    check = FEATURES[feature](service, way_of(strategy, feature))
    reason = REFUSED.get((strategy, feature))
    if reason is None:
        await check
    else:
        with pytest.raises(Refused, match=reason):
            await check


def test_the_page_in_the_docs_is_the_one_that_these_tests_show():
    assert DOCS.read_text() == render()


def test_only_a_few_pairs_are_refused():
    assert len(REFUSED) <= len(STRATEGIES) * len(FEATURES) / 20
