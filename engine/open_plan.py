"""A plan in the making: how much of each group goes into a step.

The scheduler decides who is next and reserves the room; this counts the budget and keeps the rows,
with what is wanted of each. Arithmetic on integers; no torch.
"""

from collections.abc import Sequence
from dataclasses import replace

from engine.messages import GenerationRequest
from engine.plan import Plan, PlannedRow, Scored, Watched
from engine.sequence import Group
from engine.sequence import Sequence as Row

MOST_SCORED_AT_ONCE = 64  # prompt tokens of a request a step: logits of each take much memory


class OpenPlan:
    """The budget that is left and the rows taken so far. Written to by the scheduler only."""

    def __init__(self, budget: int, alignment: int) -> None:
        self.budget = budget
        self._alignment = alignment
        self.is_short_of_room = False  # then nobody new is admitted: who runs comes first
        self.planned: list[Group] = []
        self.stepping: list[Group] = []
        self._rows: list[PlannedRow] = []
        self._scored: list[Scored] = []
        self._watched: list[Watched] = []

    def ranges(self, group: Group) -> list[tuple[Row, int, int]]:
        """What to compute of a group: all of it if the budget holds it, else a chunk of one row.

        A chunk leaves the newest token of a row for the step in which the whole group chooses.
        """
        budget = self.budget
        if group.request.scored_from is not None or group.request.needs_hidden_states:
            # Rows that decode have a token each, and must fit to go on.
            budget = min(budget, max(MOST_SCORED_AT_ONCE, len(group.held)))
        if group.num_remaining <= budget:
            return [(row, row.num_computed, row.num_tokens) for row in group.held]
        for row in group.held:
            end = row.num_computed + min(row.num_remaining - 1, budget)
            end -= end % self._alignment
            if end > row.num_computed:
                return [(row, row.num_computed, end)]
        return []

    def take(self, group: Group, ranges: Sequence[tuple[Row, int, int]]) -> None:
        """Put ranges whose room is reserved into the plan."""
        if not ranges:
            return
        is_whole = sum(end - start for _, start, end in ranges) == group.num_remaining
        exit_layers = group.exit_layers if is_whole else ()
        for row, start, end in ranges:
            is_main = row in group.rows
            num_scored = _num_scored(group.request, start, end) if is_main else 0
            is_watched = is_main and group.request.needs_hidden_states
            num_logits = end - start if is_watched else max(int(is_whole), num_scored)
            planned = PlannedRow(row, start, end, num_logits, exit_layers if is_main else ())
            self._rows.append(planned)
            if num_scored:
                self._scored.append(Scored(planned, group))
            if is_watched:
                self._watched.append(Watched(planned, group))
            self.budget -= end - start
        if is_whole:
            self.stepping.append(group)
        self.planned.append(group)

    def extend(self, row: Row, drafts: list[int]) -> None:
        """Let a planned row, whose room is reserved, carry drafts behind its newest token."""
        row.draft_ids = drafts
        at = next(at for at, planned in enumerate(self._rows) if planned.sequence is row)
        end = row.num_tokens + len(drafts)
        self._rows[at] = replace(self._rows[at], end=end, num_logits=1 + len(drafts))
        self.budget -= len(drafts)

    def closed(self) -> Plan | None:
        """The finished plan, or None if it is empty."""
        if not self._rows:
            return None
        return Plan(
            tuple(self._rows), tuple(self.stepping), tuple(self._scored), tuple(self._watched)
        )


def _num_scored(request: GenerationRequest, start: int, end: int) -> int:
    """How many of the tokens [start, end) are followed by a prompt token that is to be scored."""
    if request.scored_from is None or start >= len(request.prompt_ids) - 1:
        return 0
    return max(0, end - max(start, request.scored_from - 1))
