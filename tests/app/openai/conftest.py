"""A service whose model knows tools: its template shows them, and its tokenizer marks calls."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.torch_runner import TorchRunner
from tests.app.tiny_tokenizers import train_byte_level

TOOL_CONTEXT_LENGTH = 1024
TOOL_TEMPLATE = (
    "{% if tools %}[{% for t in tools %}{{ t.function.name }} {% endfor %}]{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tool_tokenizer():
    tokenizer = train_byte_level()
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    tokenizer.chat_template = TOOL_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def tool_runner(tool_tokenizer, engine_config):
    return load_tool_model(tool_tokenizer, engine_config)


@pytest.fixture(scope="session")
def tool_draft_runner(tool_tokenizer, engine_config):
    return load_tool_model(tool_tokenizer, engine_config)


def load_tool_model(tool_tokenizer, engine_config):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tool_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=TOOL_CONTEXT_LENGTH,
        initializer_range=0.5,
    )
    module = LlamaForCausalLM(config).eval()
    return TorchRunner.load(module, engine_config, context_length=TOOL_CONTEXT_LENGTH)
