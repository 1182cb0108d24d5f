"""Which row's content goes where: moves between rows, gathered first and carried out at once.

Forks, donations and repacking each say "this row now holds what that row held"; within a step they
chain and cancel. Only what each row finally holds is copied, in an order in which nothing is
overwritten before it is read. Written by `RowCache`; no tensors here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowCopy:
    """Copy the first `length` positions of a row to another."""

    source: int
    destination: int
    length: int


class RowMoves:
    """Pending contents: for each changed row, whose content from before the moves it gets."""

    def __init__(self, *, spare_row: int) -> None:
        self._spare_row = spare_row  # holds one content while rows change places in a circle
        self._pending: dict[int, tuple[int, int]] = {}  # destination -> (source, length)

    def move(self, source: int, destination: int, length: int) -> None:
        """Let `destination` hold the first `length` positions of what `source` holds by now."""
        origin, held = self._pending.get(source, (source, length))
        self._pending[destination] = (origin, min(length, held))

    def swap(self, one: int, other: int, lengths: tuple[int, int]) -> None:
        """Exchange two rows, of these lengths."""
        of_one, of_other = lengths
        origin_of_one = self._pending.get(one, (one, of_one))[0]
        self.move(other, one, of_other)
        self._pending[other] = (origin_of_one, of_one)

    def forget(self, row: int) -> None:
        """Nobody needs what the row would hold."""
        self._pending.pop(row, None)

    def take(self) -> list[RowCopy]:
        """All copies, in an order that is safe to carry out one by one; nothing is pending then."""
        pending = {
            destination: origin
            for destination, origin in self._pending.items()
            if origin[0] != destination and origin[1] > 0
        }
        self._pending.clear()
        copies: list[RowCopy] = []
        while pending:
            sources = {source for source, _ in pending.values()}
            free = [row for row in pending if row not in sources]
            if free:
                for destination in free:
                    copies.append(
                        RowCopy(pending[destination][0], destination, pending[destination][1])
                    )
                    del pending[destination]
            else:
                self._open_circle(pending, copies)
        return copies

    def _open_circle(self, pending: dict[int, tuple[int, int]], copies: list[RowCopy]) -> None:
        """Save one row's content aside, so that the row can be overwritten."""
        saved = next(iter(pending))
        length = max(length for source, length in pending.values() if source == saved)
        copies.append(RowCopy(saved, self._spare_row, length))
        for destination, (source, needed) in pending.items():
            if source == saved:
                pending[destination] = (self._spare_row, needed)
