"""A token that must come at one place, as `transformers.ForcedBOSTokenLogitsProcessor` has it."""

from dataclasses import dataclass

from decoding.base import DecodingRow


@dataclass(frozen=True, slots=True)
class ForcedToken:
    """The generated token number `position`, from 0, is `token_id`."""

    token_id: int
    position: int

    def forced(self, row: DecodingRow) -> int | None:
        """The token that must follow, if one must."""
        return self.token_id if len(row.generated_ids) == self.position else None
