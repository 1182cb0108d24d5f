"""Several tokens of a row in one step: drafts are guessed, computed, and kept as far as they agree.

A row that carries drafts gets logits after each of them. `ahead` shows the row as it would be after
each, so the chooser chooses for every place as if it had come there one token at a time;
`decide_ahead` then lets the decoder go on for as long as what is chosen is what was guessed. Since
a draw depends on seed, sequence and position alone, the tokens are those of plain decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from decoding.base import Candidate, Continuation, Decision, DecodingRow, Emission, Hypothesis
from engine.decide import decide
from engine.errors import DecodingFailed
from engine.sequence import Group
from engine.sequence import Sequence as Row
from engine.shown import Shown


@dataclass(slots=True)
class Ahead:
    """A row as it would be after some of its drafts. Satisfies `DecodingRow`."""

    index: int
    prompt_ids: tuple[int, ...]
    generated_ids: list[int]
    logprobs: list[float]
    similarity: float = 0.0  # of rows that are not drafted only

    @property
    def token_ids(self) -> list[int]:
        """Prompt and generated tokens, oldest first."""
        return [*self.prompt_ids, *self.generated_ids]


def ahead(row: Row) -> list[DecodingRow]:
    """The row itself, and the row after each of its drafts."""
    return [row, *(_after(row, count) for count in range(1, len(row.draft_ids) + 1))]


def decide_ahead(
    group: Group, found: Sequence[Sequence[Sequence[Candidate]]], vocab_size: int
) -> Decision | DecodingFailed:
    """The decision of a group with drafts; `found[i][n]` is for row i after n of its drafts."""
    run = _Run(group)
    rows = list(range(len(group.rows)))
    num_accepted = 0
    while rows:
        decision = decide(
            group,
            [found[at][num_accepted] for at in rows],
            vocab_size,
            Shown([run.rows[at] for at in rows], rows, num_accepted),
        )
        if isinstance(decision, DecodingFailed):
            return decision
        rows = run.take(rows, decision, num_accepted)
        num_accepted += 1
    return run.decision


@dataclass(slots=True)
class _Run:
    """What became of a group's rows so far in this step."""

    group: Group
    rows: list[Ahead] = field(init=False)
    live: dict[int, Continuation] = field(default_factory=dict)
    accepted: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    emissions: list[Emission] = field(default_factory=list)
    results: tuple[Hypothesis, ...] = ()

    def __post_init__(self) -> None:
        self.rows = [_after(row, 0) for row in self.group.rows]

    def take(self, rows: Sequence[int], decision: Decision, num_accepted: int) -> list[int]:
        """Note a decision about some rows; those whose next draft it has chosen."""
        for at in rows:
            self.live.pop(at, None)
        self.emissions += decision.emissions
        self.results = decision.results
        agreed = []
        for child in decision.live:
            at = rows[child.parent]
            before = self.accepted.setdefault(at, [])
            self.live[at] = Continuation(
                parent=at,
                token_id=child.token_id,
                logprob=child.logprob,
                index=child.index,
                before=tuple(before),
            )
            if self.group.rows[at].draft_ids[num_accepted : num_accepted + 1] == [child.token_id]:
                before.append((child.token_id, child.logprob))
                self.rows[at].generated_ids.append(child.token_id)
                self.rows[at].logprobs.append(child.logprob)
                agreed.append(at)
        return agreed

    @property
    def decision(self) -> Decision:
        """All of it as one."""
        live = tuple(self.live[at] for at in sorted(self.live))
        return Decision(live=live, emissions=tuple(self.emissions), results=self.results)


def _after(row: Row, num_drafts: int) -> Ahead:
    return Ahead(
        row.index,
        row.prompt_ids,
        [*row.generated_ids, *row.draft_ids[:num_drafts]],
        row.logprobs.copy(),
    )
