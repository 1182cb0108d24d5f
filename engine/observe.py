"""Notes what requests asked to see, out of a step's logits, into their groups.

Called by the engine once a step; costs nothing when nobody asked.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from decoding.base import Candidate, DecodingRow
from decoding.chooser import RowAsk
from decoding.token_scores import find_alternatives, score_tokens
from decoding.tracing import consider
from engine.plan import Plan


def note_prompt(plan: Plan, logits: Tensor, starts: Mapping[int, int]) -> None:
    """How likely the prompt tokens were that follow the scored rows' tokens.

    `logits` [wanted, vocab] of a row begin at `starts`, by its sequence's id.
    """
    for scored in plan.scored:
        row, request = scored.row, scored.group.request
        assert request.scored_from is not None, "its prompt is to be scored"
        said = row.end - row.num_logits + 1  # the token that the first of its logits speaks of
        first = max(said, request.scored_from)
        following = request.prompt_ids[first : row.end + 1]
        start = starts[row.sequence.id] + first - said
        scores = score_tokens(
            logits[start : start + len(following)], following, request.num_prompt_alternatives
        )
        scored.group.observed.note_prompt(first, scores)


def note_alternatives(
    plan: Plan, places: Sequence[Sequence[Sequence[DecodingRow]]], logits: Tensor
) -> None:
    """The most likely tokens at each place of the groups that want them.

    `places` are the stepping groups' rows, each as it is and after each of its drafts; `logits`
    [places, vocab] are in their order.
    """
    wanted = []
    at = 0
    for group, rows in zip(plan.stepping, places, strict=True):
        for place in (place for row in rows for place in row):
            if group.request.num_alternatives:
                wanted.append((at, group, place))
            at += 1
    if not wanted:
        return
    index = torch.tensor([at for at, _, _ in wanted], device=logits.device)
    counts = [group.request.num_alternatives for _, group, _ in wanted]
    found = find_alternatives(logits[index], counts)
    for (_, group, place), alternatives in zip(wanted, found, strict=True):
        group.observed.note(place.generated_ids, alternatives)


def note_outlooks(
    plan: Plan,
    places: Sequence[Sequence[Sequence[DecodingRow]]],
    logits: Tensor,
    asked: Sequence[RowAsk],
    candidates: Sequence[Sequence[Candidate]],
) -> None:
    """What might follow at each place of the groups that are traced.

    `logits` [places, vocab], `asked` and the `candidates` found are in the order of `places`.
    """
    if all(group.tracer is None for group in plan.stepping):
        return
    first = 0
    for group, rows in zip(plan.stepping, places, strict=True):
        here = slice(first, first + sum(map(len, rows)))
        first = here.stop
        if group.tracer is not None and group.tracer.is_open:
            count = group.tracer.num_candidates
            outlook = iter(consider(logits[here], asked[here], candidates[here], count))
            group.tracer.consider([[next(outlook) for _ in row] for row in rows])
