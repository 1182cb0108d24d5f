"""Fields of other servers that say what is done here anyhow, and that routers add to every body.

vllm-router reads a request, fills in what vLLM and SGLang would do by default, and sends that on.
A field that says what happens here is dropped before the body is validated; with any other value
it stays, and is refused by name with the hint in `HINTS`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

AS_HERE: Mapping[str, bool] = MappingProxyType(
    {
        "ignore_eos": False,
        "include_reasoning": True,
        "no_stop_trim": False,
        "return_hidden_states": False,
        "separate_reasoning": True,
        "skip_special_tokens": True,
        "stream_reasoning": True,
    }
)
CONTINUES = "continue_final_message"
_REASONING = "Reasoning comes as part of the text; leave this out, or send true."
HINTS: Mapping[str, str] = MappingProxyType(
    {
        CONTINUES: "A conversation is continued if its last message is the assistant's, and only "
        "then; leave this out.",
        "ignore_eos": "Send min_new_tokens to go on beyond where the model would end.",
        "include_reasoning": _REASONING,
        "no_stop_trim": "Send include_stop_str_in_output: true to keep a stop string.",
        "return_hidden_states": "They are not given; leave this out, or send false.",
        "separate_reasoning": _REASONING,
        "skip_special_tokens": "Special tokens are left out of texts; send true or leave this out.",
        "stream_reasoning": _REASONING,
    }
)


def without_what_is_so(body: dict[str, Any]) -> dict[str, Any]:
    """The body without the fields that ask for what happens in any case."""
    as_here = {**AS_HERE, CONTINUES: _is_continued(body)}
    return {name: value for name, value in body.items() if value is not as_here.get(name, body)}


def _is_continued(body: dict[str, Any]) -> bool:
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "assistant"
