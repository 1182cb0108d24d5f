"""The table of all pairs, as `docs/pairs.md` shows it.

python -m tests.app.pairs.table > docs/pairs.md
"""

from collections.abc import Mapping

from decoding.registry import STRATEGIES
from tests.app.pairs.features import FEATURES

REFUSED: Mapping[tuple[str, str], str] = {
    ("greedy", "n > 1"): "Greedy decoding has one answer",
    **{
        (strategy, "speculation"): "guesses cannot speed it up"
        for strategy in ("beam", "beam_sample", "diverse_beam", "constrained_beam", "mirostat")
    },
}
"""Pairs that are refused with a 422, and what it says."""

HEAD = """# Every strategy with every feature

Made by `python -m tests.app.pairs.table`; `tests/app/pairs` runs each pair against a running
service. **yes**: works, shown by its test. **422**: refused, with the reason below.

"""
WHY = """
## What is refused, and why

- `greedy` with several sequences: greedy decoding has one answer.
- Speculation with beams: beams choose by looking at all rows of a step, so a row cannot run
  ahead of the others.
- Speculation with `mirostat`: what it asks of a token depends on how surprising the one before
  was.
"""


def render() -> str:
    """The page."""
    names = list(FEATURES)
    lines = [
        "| strategy | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| `{strategy}` | "
            + " | ".join("422" if (strategy, name) in REFUSED else "yes" for name in names)
            + " |"
            for strategy in STRATEGIES
        ),
    ]
    return HEAD + "\n".join(lines) + "\n" + WHY


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201
