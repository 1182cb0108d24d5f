"""What `test_litellm.py` has done with the real `litellm`, in an environment of its own.

Takes the API's address and the model's name; prints what came back, as JSON.
"""

import json
import sys

import litellm

url, model = sys.argv[1:]
settings = {
    "model": f"openai/{model}",
    "api_base": url,
    "api_key": "none",
    "messages": [{"role": "user", "content": "Tell me of the sea."}],
    "max_tokens": 6,
}
whole = litellm.completion(**settings, temperature=0)
chunks = litellm.completion(**settings, temperature=0, stream=True)
beams = litellm.completion(**settings, n=2, extra_body={"strategy": "beam", "num_beams": 3})
try:
    litellm.completion(**settings, extra_body={"num_beams": 3})
    refusal = ""
except litellm.BadRequestError as error:
    refusal = str(error)
print(  # noqa: T201
    json.dumps(
        {
            "text": whole.choices[0].message.content,
            "num_tokens": whole.usage.completion_tokens,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
            "beams": [choice.message.content for choice in beams.choices],
            "refusal": refusal,
        }
    )
)
