"""The table of all pairs, as `docs/pairs.md` shows it.

python -m tests.app.pairs.table > docs/pairs.md
"""

from collections.abc import Mapping

from decoding.registry import STRATEGIES
from tests.app.pairs.features import FEATURES

REFUSED: Mapping[tuple[str, str], str] = {
    ("greedy", "n > 1"): "Greedy decoding has one answer",
    ("contrastive", "n > 1"): "Contrastive search has one answer",
    **{
        (strategy, speculation): "guesses cannot speed it up"
        for strategy in (
            *("beam", "beam_sample", "diverse_beam", "constrained_beam"),
            *("contrastive", "mirostat"),
        )
        for speculation in ("prompt lookup", "draft model")
    },
}
"""Pairs that are refused with a 422, and what it says."""

NO_USE = {("contrastive", "prefix cache")}
"""Pairs in which the feature is without effect: the answer is the same."""

HEAD = """# Every strategy with every feature

Made by `python -m tests.app.pairs.table`; `tests/app/pairs` runs each pair against a running
service. **yes**: works, shown by its test. **422**: refused, with the reason below. **no use**:
answered all the same.

"""
WHY = """
## What is refused, and why

- `greedy` and `contrastive` with several sequences: they have one answer.
- Guesses (prompt lookup, draft model) with beams and `contrastive`: these choose by looking at all
  rows of a step, so a row cannot run ahead of the others.
- Guesses with `mirostat`: what it asks of a token depends on how surprising the one before
  was.
- `dola` has several sequences where it draws, with `do_sample`.
- `contrastive` reads every token of its prompt, whose hidden states it compares: prefixes that are
  cached do not help it.
"""


def render() -> str:
    """The page."""
    names = list(FEATURES)
    lines = [
        "| strategy | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| `{strategy}` | " + " | ".join(_outcome(strategy, name) for name in names) + " |"
            for strategy in STRATEGIES
        ),
    ]
    return HEAD + "\n".join(lines) + "\n" + WHY


def _outcome(strategy: str, feature: str) -> str:
    if (strategy, feature) in REFUSED:
        return "422"
    return "no use" if (strategy, feature) in NO_USE else "yes"


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201
