"""The heads of a decoder, as graphs and manifests tell them. Values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The heads of a decoder's attention layers, all alike."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
