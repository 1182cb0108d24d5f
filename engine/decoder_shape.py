"""What an exported decoder keeps of a token: the shape of its keys and values.

Filled in by the composition root from the export's manifest; both ONNX runners read it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """The attention layers of a decoder, all alike."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    context_length: int  # tokens
    has_tied_embeddings: bool = False  # the matrix that embeds tokens gives the logits, too

    @property
    def floats_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim

    @property
    def bytes_per_token(self) -> int:
        """The same in bytes."""
        return 4 * self.floats_per_token
