"""What one step computes: rows with their token ranges, and which groups choose a token after it.

Written by the scheduler, read by the runner (which tokens, which logits) and by the engine
(whose decoders get them). Frozen; no torch.
"""

from dataclasses import dataclass

from engine.sequence import Group, Sequence


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """Tokens [start, end) of a sequence are computed in this step, drafts at its end included."""

    sequence: Sequence
    start: int
    end: int
    num_logits: int  # logits are wanted after so many of the last tokens
    exit_layers: tuple[int, ...] = ()  # what would be said after these is wanted, too

    @property
    def num_exits(self) -> int:
        """After so many of its last tokens: the newest one and its drafts."""
        return 1 + len(self.sequence.draft_ids) if self.exit_layers else 0


@dataclass(frozen=True, slots=True)
class Scored:
    """A planned row whose logits also say how likely its prompt's tokens were."""

    row: PlannedRow
    group: Group


@dataclass(frozen=True, slots=True)
class Watched:
    """A planned row the hidden states of whose tokens are wanted; it wants logits after each."""

    row: PlannedRow
    group: Group


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. Logits come back as the rows want them: row by row, each token after token."""

    rows: tuple[PlannedRow, ...]
    stepping: tuple[Group, ...]  # groups whose rows all reach their end, in the order of `rows`
    scored: tuple[Scored, ...] = ()
    watched: tuple[Watched, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens the model computes in this step."""
        return sum(row.end - row.start for row in self.rows)
