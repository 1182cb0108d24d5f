"""Tools and calls reach the model through its own template, and what it lacks in plain words."""

import json

import pytest

from app.errors import InvalidRequest
from app.text.chat_template import ChatTemplate
from app.text.request import Message
from app.text.tools.formats import DEEPSEEK_FENCED, HERMES, LLAMA_3, MISTRAL_LIST
from app.text.tools.spec import ToolCall
from tests.app.text.tools.call_texts import function
from tests.app.tiny_tokenizers import train_byte_level

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = function("get_weather", json.dumps(PARAMETERS), description="Tells the weather.")
ASKED = Message(role="user", content="Rain in Rome?")
CALLED = Message(
    role="assistant",
    content="",
    tool_calls=(
        ToolCall(id="call_1", name="get_weather", arguments='{"city": "Rome"}'),
        ToolCall(id="call_2", name="get_weather", arguments='{"city": "Pisa"}'),
    ),
)
FIRST = Message(role="tool", content="rain", tool_call_id="call_1")
SECOND = Message(role="tool", content="sun", tool_call_id="call_2")

PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('in turn!') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
NATIVE = (  # in the manner of Qwen's
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>"
    "<tool_call>...</tool_call>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ '\n' }}<tool_call>{{ c.function | tojson }}</tool_call>"
    "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT_ARGUMENTS = (  # in the manner of DeepSeek's: shows calls, but no functions
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<｜tool▁calls▁begin｜>{{ c.function.name + '\n```json\n' "  # noqa: RUF001
    "+ c.function.arguments }}{% endfor %}{% endfor %}"
)
SHORT_IDS = (  # in the manner of Mistral's
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}{{ raise_exception('long id') }}"
    "{% endif %}[TOOL_CALLS] [{{ c.function | tojson }} {{ c.id }}]{% endfor %}"
    "{% if m.role == 'tool' %}[RESULT {{ m.tool_call_id }} {{ m.name }}]{% endif %}"
    "{{ m.content or '' }}{% endfor %}"
)


@pytest.fixture(scope="module")
def template_of():
    def make(template):
        tokenizer = train_byte_level()
        tokenizer.chat_template = template
        return ChatTemplate(tokenizer)

    return make


def test_a_template_that_knows_tools_shows_them_its_own_way(template_of):
    template = template_of(NATIVE)
    rendered = template.render((ASKED, CALLED, FIRST, SECOND), (WEATHER,))
    shown = json.dumps(WEATHER.as_tool())
    assert rendered == (
        f"<tools>{shown}</tools><tool_call>...</tool_call><|user|>Rain in Rome?\n<|assistant|>"
        '\n<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'
        '\n<tool_call>{"name": "get_weather", "arguments": {"city": "Pisa"}}</tool_call>'
        "\n<|tool|>rain\n<|tool|>sun\n<|assistant|>"
    )
    assert template.call_format is HERMES


def test_without_tools_nothing_is_told_of_them(template_of):
    assert template_of(NATIVE).render((ASKED,)) == "<|user|>Rain in Rome?\n<|assistant|>"
    assert template_of(PLAIN).render((ASKED,)) == "<|user|>Rain in Rome?\n<|assistant|>"


def test_a_template_that_knows_no_tools_is_told_in_the_system_message(template_of):
    turns = (Message(role="system", content="Be brief."), ASKED)
    rendered = template_of(PLAIN).render(turns, (WEATHER,))
    assert rendered.startswith("<|system|>Be brief.\n\nYou can call functions.")
    assert json.dumps(WEATHER.as_tool()["function"]) in rendered
    assert HERMES.write([("NAME", '{"ARGUMENT": VALUE}')]) in rendered
    assert rendered.endswith("\n<|user|>Rain in Rome?\n<|assistant|>")
    without = template_of(PLAIN).render((ASKED,), (WEATHER,))
    assert without.startswith("<|system|>You can call functions.")


def test_calls_and_results_become_text_where_a_template_shows_none(template_of):
    rendered = template_of(PLAIN).render((ASKED, CALLED, FIRST, SECOND))
    calls = HERMES.write([(call.name, call.arguments) for call in CALLED.tool_calls])
    assert rendered == (
        f"<|user|>Rain in Rome?\n<|assistant|>{calls}\n"
        "<|user|><tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>\n"
        "<|assistant|>"
    )


def test_a_template_without_a_system_is_told_by_the_first_user(template_of):
    rendered = template_of(NO_SYSTEM).render((ASKED, CALLED, FIRST, SECOND), (WEATHER,))
    assert rendered.startswith("[user]You can call functions.")
    assert "\n\nRain in Rome?[assistant]<tool_call>" in rendered
    assert rendered.count("[user]") == 2


def test_a_template_that_wants_arguments_as_text_gets_them(template_of):
    template = template_of(TEXT_ARGUMENTS)
    assert template.call_format is DEEPSEEK_FENCED
    rendered = template.render((ASKED, CALLED, FIRST, SECOND), (WEATHER,))
    assert 'get_weather\n```json\n{"city": "Rome"}' in rendered
    assert rendered.startswith("<|system|>You can call functions."), "it shows none itself"


def test_ids_of_another_service_are_made_short_where_they_must_be(template_of):
    template = template_of(SHORT_IDS)
    assert template.call_format is MISTRAL_LIST
    own = ToolCall(id="abcDEF123", name="get_weather", arguments="{}")
    turns = (Message(role="assistant", content="", tool_calls=(own, *CALLED.tool_calls[:1])),)
    rendered = template.render((ASKED, *turns, FIRST), (WEATHER,))
    assert " abcDEF123]" in rendered
    (short,) = [part[:9] for part in rendered.split("[RESULT ")[1:]]
    assert f"{short}]" in rendered
    assert f"[RESULT {short} get_weather]" in rendered


def test_llamas_form_is_told_by_its_template(template_of):
    assert template_of(PLAIN).call_format is HERMES
    assert template_of('<|start_header_id|>{"name": "f", "parameters": 1}').call_format is LLAMA_3


def test_a_template_for_tools_beside_others_is_looked_at(template_of):
    assert template_of({"default": PLAIN, "tool_use": SHORT_IDS}).call_format is MISTRAL_LIST


def test_calls_without_results_are_refused(template_of):
    with pytest.raises(InvalidRequest, match="add the results, as messages of role `tool`"):
        template_of(NATIVE).render((ASKED, CALLED), (WEATHER,))


def test_an_answer_that_has_begun_is_continued_with_tools_too(template_of):
    turns = (ASKED, Message(role="assistant", content="Let me"))
    assert template_of(NATIVE).render(turns, (WEATHER,)).endswith("<|assistant|>Let me")
