"""A random Llama that is small enough for any test; the seed decides which."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def tiny_llama(*, vocab_size, context_length, seed=0, **changes):
    """A module in eval mode, with grouped-query attention; `changes` are of its configuration."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size, max_position_embeddings=context_length, **(SIZES | changes)
    )
    return LlamaForCausalLM(config).eval()
