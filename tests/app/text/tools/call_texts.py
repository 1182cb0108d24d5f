"""Formats by name, and tokenizers in which their marks are tokens, special ones or none."""

from app.text.tools import formats
from app.text.tools.spec import Function, ToolUse
from tests.app.tiny_tokenizers import train_byte_level

FORMATS = {
    "hermes": formats.HERMES,
    "llama 3": formats.LLAMA_3,
    "mistral list": formats.MISTRAL_LIST,
    "mistral marked": formats.MISTRAL_MARKED,
    "granite": formats.GRANITE,
    "deepseek fenced": formats.DEEPSEEK_FENCED,
    "deepseek": formats.DEEPSEEK,
}
MARKS = (
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"),  # noqa: RUF001
    *("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),  # noqa: RUF001
)
THINK = "<think>"


def spelled_tokenizer():
    """No mark is a token."""
    return train_byte_level()


def marked_tokenizer():
    """Every mark is a token, as Qwen has them."""
    tokenizer = train_byte_level()
    tokenizer.add_tokens([*MARKS, THINK])
    return tokenizer


def special_tokenizer():
    """Every mark is a special token, as Mistral has them."""
    tokenizer = train_byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    tokenizer.add_tokens([THINK])
    return tokenizer


TOKENIZERS = {
    "spelled": spelled_tokenizer,
    "marked": marked_tokenizer,
    "special": special_tokenizer,
}


def function(name, parameters='{"type": "object", "additionalProperties": false}', **more):
    return Function(name=name, field=f"tools.{name}", parameters=parameters, **more)


def use(*functions, only=None, **more):
    names = frozenset(each.name for each in functions) if only is None else frozenset(only)
    return ToolUse(functions=functions, callable_names=names, **more)
