"""How tests ask OpenAI's routes, and read what they answer."""

import json

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


async def ask(service, path, **body):
    """The answer to a request that succeeds."""
    response = await service.post(path, **body)
    assert response.status_code == 200, response.text
    return response.json()


async def chat(service, **body):
    return await ask(service, CHAT, **body)


async def complete(service, **body):
    return await ask(service, COMPLETIONS, **body)


async def stream_of(service, path, **body):
    """The chunks of a stream that ends well."""
    response = await service.post(path, **body, stream=True)
    assert response.status_code == 200, response.text
    *frames, done = response.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert not any("error" in chunk for chunk in chunks), chunks[-1]
    return chunks


async def chat_stream(service, **body):
    return await stream_of(service, CHAT, **body)


async def refusal(service, path=CHAT, **body):
    """The field that a refused request is told of."""
    response = await service.post(path, **body)
    assert response.status_code == 400, response.text
    return response.json()["error"]["param"]


def said(answer, index=0):
    """The text of a chat's answer."""
    return answer["choices"][index]["message"]["content"]
