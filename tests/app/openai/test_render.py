"""What routers ask of a replica: the tokens of a request, and the fields that they add to it."""

import pytest

from app.openai.other_servers import AS_HERE, HINTS
from tests.app.openai.asking import ask, chat, complete, refusal

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "what is the best way"}]
OPEN = [*USER, {"role": "assistant", "content": "the quick"}]


@pytest.mark.parametrize("messages", [USER, OPEN])
async def test_a_chat_is_rendered_to_the_tokens_that_it_is_answered_after(service, messages):
    rendered = await ask(service, f"{CHAT}/render", messages=messages, max_tokens=3)
    tokens = await ask(service, "/tokenize", messages=messages)
    answer = await chat(service, messages=messages, max_tokens=3)
    assert rendered == {"token_ids": tokens["tokens"], "model": "tiny"}
    assert answer["usage"]["prompt_tokens"] == len(rendered["token_ids"])


async def test_each_prompt_of_a_completion_is_rendered(service):
    prompts = ["the quick", "what is the best way"]
    rendered = await ask(service, f"{COMPLETIONS}/render", prompt=prompts)
    tokens = [await ask(service, "/tokenize", text=prompt) for prompt in prompts]
    assert [each["token_ids"] for each in rendered] == [each["tokens"] for each in tokens]


async def test_what_could_not_be_answered_is_not_rendered(service):
    assert await refusal(service, f"{CHAT}/render", messages=USER, max_tokns=3) == "max_tokns"
    response = await service.post(f"{CHAT}/render", messages=USER, model="other")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_what_routers_add_is_taken_where_it_says_what_happens_anyhow(service):
    plain = {"messages": USER, "seed": 1, "max_tokens": 3}
    added = {**AS_HERE, "continue_final_message": False}
    assert set(added) == set(HINTS)
    expected = (await chat(service, **plain))["choices"]
    assert (await chat(service, **plain, **added))["choices"] == expected
    prompt = {"prompt": "the quick", "seed": 1, "max_tokens": 3}
    expected = (await complete(service, **prompt))["choices"]
    assert (await complete(service, **prompt, **AS_HERE))["choices"] == expected


@pytest.mark.parametrize("field", sorted(HINTS))
async def test_what_would_change_something_is_refused_by_name(service, field):
    other = not {**AS_HERE, "continue_final_message": False}[field]
    for value in (other, int(not other), "no"):
        assert await refusal(service, CHAT, messages=USER, **{field: value}) == field


async def test_an_open_message_is_continued_and_saying_otherwise_is_refused(service):
    asked = {"messages": OPEN, "seed": 1, "max_tokens": 3}
    expected = (await chat(service, **asked))["choices"]
    assert (await chat(service, **asked, continue_final_message=True))["choices"] == expected
    named = "continue_final_message"
    assert await refusal(service, CHAT, **asked, continue_final_message=False) == named
