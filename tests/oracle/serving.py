"""Engines over tiny models, with a cache of a chosen size."""

from dataclasses import replace

from transformers import PreTrainedModel

from engine.config import EngineConfig
from engine.engine import Engine
from engine.torch_runner import TorchRunner
from tests.oracle.architectures import CONTEXT_LENGTH, Architecture, build_model

ROOMY_CACHE_BYTES = 64 * 2**20


def build_engine(architecture: Architecture, config: EngineConfig) -> Engine:
    """An engine over a fresh model; the runner keeps the module to itself."""
    if config.kv_cache_bytes is None:
        config = replace(config, kv_cache_bytes=ROOMY_CACHE_BYTES)
    runner = TorchRunner.load(build_model(architecture), config, context_length=CONTEXT_LENGTH)
    return Engine(runner, config)


def bytes_of_cache(model: PreTrainedModel, num_tokens: int) -> int:
    """Bytes that hold the float32 keys and values of `num_tokens` tokens in every layer."""
    config = model.config
    num_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    key_dim = getattr(config, "qk_head_dim", head_dim)
    value_dim = getattr(config, "v_head_dim", head_dim)
    return num_tokens * config.num_hidden_layers * num_heads * (key_dim + value_dim) * 4
