"""Puts our attention in the place of a module's own, and finds out what its layers keep.

For the torch runner, which compares the two before it serves, and for whoever shares the memory
between caches before there are runners.
"""

import torch
from transformers import PreTrainedModel

from engine.errors import UnsupportedModel
from engine.paged_attention import ATTENTION_NAME, LayerProbe, register_paged_attention


def switch_attention(module: PreTrainedModel, name: str) -> None:
    """Have a module attend with what transformers knows under `name`.

    Raises:
        UnsupportedModel: it has attention of its own that cannot be switched.
    """
    module.set_attn_implementation(name)
    if module.config._attn_implementation != name:
        raise UnsupportedModel(
            f"{type(module).__name__} does not route its attention through transformers' "
            "attention interface"
        )


def probe_layers(module: PreTrainedModel) -> LayerProbe:
    """Run one token through the module to see which layers attend, and how wide they are.

    Raises:
        UnsupportedModel: none does, or they pass nothing on to our attention.
    """
    probe = LayerProbe()
    one = torch.ones((1, 1), dtype=torch.int64, device=module.device)
    with torch.inference_mode():
        module(input_ids=one, position_ids=one - 1, use_cache=False, flat_batch=probe)
    if not probe.shapes:
        raise UnsupportedModel(f"{type(module).__name__} has no attention layers to cache")
    return probe


def cache_bytes_per_token(module: PreTrainedModel) -> int:
    """What the keys and values of a token take in all layers; leaves the module as it was.

    Raises:
        UnsupportedModel: the module cannot run on a paged cache.
    """
    plain_attention = module.config._attn_implementation
    register_paged_attention()
    switch_attention(module, ATTENTION_NAME)
    shapes = probe_layers(module).shapes.values()
    switch_attention(module, plain_attention)
    return sum(shape.width for shape in shapes) * module.dtype.itemsize
