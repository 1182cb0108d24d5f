"""A service whose model knows tools: its template shows them, and its tokenizer marks calls."""

import pytest

from engine.torch_runner import TorchRunner
from tests.app.tiny_tokenizers import train_byte_level
from tests.tiny_llama import tiny_llama

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
    module = tiny_llama(
        vocab_size=len(tool_tokenizer), context_length=TOOL_CONTEXT_LENGTH, initializer_range=0.5
    )
    return TorchRunner.load(module, engine_config, context_length=TOOL_CONTEXT_LENGTH)
