"""Runs a few prompts through a runner as serving would: cut into pieces, several in a step.

What the checks at load compare with a reference (`self_test`, `native_check`).
"""

from collections.abc import Iterable
from collections.abc import Sequence as Items

from torch import Tensor

from engine.plan import Plan, PlannedRow
from engine.runner import Runner
from engine.sequence import Sequence


def ragged_logits(runner: Runner, prompts: Items[Items[int]]) -> list[Tensor]:
    """Logits [vocab] after each prompt without its last token, and after all of it, in order.

    Three ragged steps: chunks of every prompt; the rest of each but the last token; that token.
    The runner's cache must hold all prompts, and is empty again afterwards.
    """
    rows = [Sequence(id=at, prompt_ids=tuple(ids)) for at, ids in enumerate(prompts)]
    for row in rows:
        runner.cache.match_prefix(row.id, (), "")
    _run(runner, [(row, 0, row.num_tokens // 2) for row in rows if row.num_tokens > 1])
    before_last = _run(runner, [(row, row.num_tokens // 2, row.num_tokens - 1) for row in rows])
    last = _run(runner, [(row, row.num_tokens - 1, row.num_tokens) for row in rows])
    for row in rows:
        runner.cache.release(row.id)
    return [logits for pair in zip(before_last, last, strict=True) for logits in pair]


def _run(runner: Runner, ranges: Iterable[tuple[Sequence, int, int]]) -> list[Tensor]:
    planned = []
    for sequence, start, end in ranges:
        assert runner.cache.reserve(sequence.id, start, end), "an empty cache holds the prompts"
        planned.append(PlannedRow(sequence, start, end, num_logits=1))
    logits = runner.forward(Plan(rows=tuple(planned), stepping=())).values
    return list(logits.float().cpu().clone())  # a runner may overwrite them in the next step
