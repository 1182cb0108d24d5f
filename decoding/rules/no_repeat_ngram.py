"""No-repeat n-gram: no sequence of n tokens occurs twice, prompt included.

Paulus et al. 2017, arXiv:1705.04304, as `transformers.NoRepeatNGramLogitsProcessor`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from decoding.base import DecodingRow


@dataclass(frozen=True, slots=True)
class NoRepeatNgram:
    """A request's ban on repeated sequences of `size` tokens."""

    size: int

    def banned(self, row: DecodingRow) -> Collection[int]:
        """The tokens that would end a sequence which the row holds already."""
        ids = list(row.token_ids)
        context = ids[len(ids) - self.size + 1 :]
        num_places = len(ids) - self.size + 1
        return {
            ids[at + self.size - 1]
            for at in range(num_places)
            if ids[at : at + self.size - 1] == context
        }
