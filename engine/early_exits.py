"""Which rows of a step's logits are to tell what the model would say after fewer layers.

Found out once a step by the runners that can tell. Integers only; the states themselves are in
`decoding.logits.EarlyExits`.
"""

from dataclasses import dataclass

from engine.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRows:
    """Rows of a step's logits whose states are kept after some layers."""

    rows: tuple[int, ...]
    layers: tuple[int, ...]

    @property
    def places(self) -> dict[int, int]:
        """Where a row of logits stands among those kept."""
        return {row: at for at, row in enumerate(self.rows)}


def kept_rows(plan: Plan) -> KeptRows | None:
    """The rows that a plan wants early exits of; None if there are none."""
    if not any(planned.exit_layers for planned in plan.rows):
        return None
    rows: list[int] = []
    layers: set[int] = set()
    end = 0
    for planned in plan.rows:
        end += planned.num_logits
        rows += range(end - planned.num_exits, end)
        layers.update(planned.exit_layers)
    return KeptRows(rows=tuple(rows), layers=tuple(sorted(layers)))
