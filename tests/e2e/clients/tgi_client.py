"""Asks a server with TGI's own Python client and prints what came, as JSON.

Run with the Python of `make clients`, whose packages do not go with ours:
`python tgi_client.py URL`.
"""

import asyncio
import json
import sys

from text_generation import AsyncClient, Client
from text_generation.errors import ValidationError

PROMPT = "The sea is wide"


def main(url):
    client = Client(url, timeout=120)
    answer = client.generate(
        PROMPT,
        max_new_tokens=8,
        do_sample=True,
        seed=5,
        top_n_tokens=2,
        decoder_input_details=True,
        repetition_penalty=1.1,
        stop_sequences=["never there"],
    )
    several = client.generate(PROMPT, max_new_tokens=5, best_of=3, temperature=0.9)
    number = client.generate(
        PROMPT, max_new_tokens=9, grammar={"type": "regex", "value": "[0-9]{4}"}
    )
    events = list(client.generate_stream(PROMPT, max_new_tokens=8))
    told = {
        "answer": answer.model_dump(mode="json"),
        "several": several.model_dump(mode="json"),
        "number": number.generated_text,
        "events": [event.model_dump(mode="json") for event in events],
        "asynchronous": asyncio.run(generate(url)),
        "refusal": refusal(client),
    }
    sys.stdout.write(json.dumps(told))


async def generate(url):
    client = AsyncClient(url, timeout=120)
    pieces = [event.token.text async for event in client.generate_stream(PROMPT, max_new_tokens=8)]
    whole = await client.generate(PROMPT, max_new_tokens=8)
    return {"pieces": pieces, "text": whole.generated_text}


def refusal(client):
    try:
        client.generate(PROMPT, max_new_tokens=10_000_000)
    except ValidationError as error:
        return str(error)
    return None


main(*sys.argv[1:])
