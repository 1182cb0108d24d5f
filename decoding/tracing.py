"""What might have followed some rows: probabilities before and after all that was asked of them.

Called by the engine for the rows of requests that want to see it, after the chooser has chosen.
The scores are made by the functions that the chooser uses, so what is shown is what was used; of
shortlists, which the chooser takes where they give the same, nothing is known here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from decoding.base import Candidate
from decoding.chooser import RowAsk, adjusted_scores, filterings, is_ranked
from decoding.considered import Considered, Outlook
from decoding.normaliser import log_normaliser
from decoding.processors.chain import apply_filters


def consider(
    logits: Tensor, asked: Sequence[RowAsk], found: Sequence[Sequence[Candidate]], count: int
) -> list[Outlook]:
    """What might follow each row of `logits` [rows, vocab].

    That is the `count` most likely tokens before processing, as many after it, and all `found`.
    """
    logits = logits.float()
    normaliser = log_normaliser(logits)
    scores = _processed(logits, normaliser, asked)
    before, after = logits - normaliser, scores - log_normaliser(scores)
    count = min(count, logits.shape[1])
    likely = (before.topk(count, dim=1).indices, after.topk(count, dim=1).indices)
    shown = torch.cat((*likely, _padded(found, logits)), dim=1)
    columns = [each.gather(1, shown).tolist() for each in (before, scores, after)]
    return [
        Outlook(_considered(row, len(candidates), count), is_ranked(entry.ask))
        for *row, candidates, entry in zip(shown.tolist(), *columns, found, asked, strict=True)
    ]


def _processed(logits: Tensor, normaliser: Tensor, asked: Sequence[RowAsk]) -> Tensor:
    """The scores that rows are chosen by; those that are ranked are made apart from the others."""
    scores = torch.empty_like(logits)
    for kind in (True, False):
        members = [at for at, entry in enumerate(asked) if is_ranked(entry.ask) is kind]
        if members:
            at = torch.tensor(members, device=logits.device)
            wanted = [asked[member] for member in members]
            adjusted = adjusted_scores(logits[at], normaliser[at], wanted)
            scores[at] = apply_filters(adjusted, filterings(wanted))
    return scores


def _padded(found: Sequence[Sequence[Candidate]], logits: Tensor) -> Tensor:
    """The found tokens [rows, most], 0 where a row has fewer."""
    ids = [[candidate.token_id for candidate in row] for row in found]
    most = max(map(len, ids), default=0)
    rows = [row + [0] * (most - len(row)) for row in ids]
    return torch.tensor(rows, dtype=torch.int64, device=logits.device).reshape(len(rows), most)


def _considered(row: list[list[float]], num_found: int, count: int) -> tuple[Considered, ...]:
    """One row's tokens once each: `count` before, `count` after, then those found, and padding."""
    entries = list(zip(*row, strict=True))[: 2 * count + num_found]
    by_token: dict[int, Considered] = {}
    for place, (token_id, logprob, score, processed) in enumerate(entries):
        is_dropped = score == -torch.inf
        if count <= place < 2 * count and is_dropped:
            continue  # fewer tokens than that are left
        by_token.setdefault(
            int(token_id),
            Considered(
                token_id=int(token_id),
                logprob=logprob,
                score=score,
                processed_logprob=processed,
                is_likely=place < 2 * count,
            ),
        )
    return tuple(
        sorted(by_token.values(), key=lambda each: (-each.processed_logprob, -each.logprob))
    )
