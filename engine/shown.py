"""What a decoder is shown where it is not simply its group's rows. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from decoding.base import DecodingRow


@dataclass(frozen=True, slots=True)
class Shown:
    """Some rows of a group as they would be after some of their drafts."""

    rows: Sequence[DecodingRow]
    at: Sequence[int]  # where they stand in the group
    num_drafts: int
