"""`huggingface_hub.InferenceClient`, as its users call it, against a real server process."""

import json

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError

PROMPT = "The sea is wide"


@pytest.fixture(scope="module")
def hugging_face(chat_url):
    return InferenceClient(chat_url)


@pytest.fixture
def client(chat_url, connect):
    with connect(base_url=chat_url) as client:
        yield client


def test_it_generates_text(hugging_face, client):
    text = hugging_face.text_generation(PROMPT, max_new_tokens=12, return_full_text=False)
    ours = client.post(
        "/generate",
        json={
            "text": PROMPT,
            "strategy": "greedy",
            "max_new_tokens": 12,
            "return_full_text": False,
        },
    )
    assert text == ours.json()["generated_text"] != ""
    assert hugging_face.text_generation(PROMPT, max_new_tokens=12) == PROMPT + text


def test_it_reads_the_details(hugging_face):
    answer = hugging_face.text_generation(
        PROMPT,
        details=True,
        decoder_input_details=True,
        max_new_tokens=6,
        top_n_tokens=2,
        do_sample=True,
        seed=7,
        return_full_text=False,
    )
    details = answer.details
    assert (details.finish_reason, details.generated_tokens, details.seed) == ("length", 6, 7)
    assert "".join(token.text for token in details.prefill) == PROMPT
    assert "".join(token.text for token in details.tokens) == answer.generated_text
    assert all(token.logprob < 0 and not token.special for token in details.tokens)
    assert [len(likely) for likely in details.top_tokens] == [2] * 6


def test_it_streams_text_and_details(hugging_face):
    asked = {"max_new_tokens": 10, "return_full_text": False}
    whole = hugging_face.text_generation(PROMPT, **asked)
    assert "".join(hugging_face.text_generation(PROMPT, stream=True, **asked)) == whole
    events = list(hugging_face.text_generation(PROMPT, stream=True, details=True, **asked))
    assert [event.index for event in events] == list(range(1, 11))
    assert events[-1].generated_text == whole
    assert events[-1].details.finish_reason == "length"
    assert events[-1].details.generated_tokens == 10
    assert events[-1].details.input_length > 0


def test_it_draws_the_best_of_several(hugging_face):
    answer = hugging_face.text_generation(
        PROMPT, best_of=3, do_sample=True, details=True, max_new_tokens=5
    )
    texts = {answer.generated_text, *(x.generated_text for x in answer.details.best_of_sequences)}
    assert len(texts) == 3


def test_it_gets_what_a_grammar_asks_for(hugging_face):
    schema = {
        "type": "object",
        "properties": {"ships": {"enum": [1, 2, 3]}},
        "required": ["ships"],
        "additionalProperties": False,
    }
    text = hugging_face.text_generation(
        PROMPT,
        max_new_tokens=400,
        grammar={"type": "json", "value": schema},
        return_full_text=False,
        repetition_penalty=1.2,
    )
    if text.strip().endswith("}"):
        assert json.loads(text)["ships"] in (1, 2, 3)
    else:  # a random model may write spaces until its tokens are used up
        assert text.lstrip().startswith("{")
    digits = hugging_face.text_generation(
        PROMPT, grammar={"type": "regex", "value": "[0-9]{4}"}, return_full_text=False
    )
    assert digits.isdigit()
    assert len(digits) == 4


def test_it_stops_at_stop_strings(hugging_face):
    whole = hugging_face.text_generation(PROMPT, max_new_tokens=40, return_full_text=False)
    stop = next(word for word in whole[5:].split("\ufffd") if len(word) > 1)[:2]
    text = hugging_face.text_generation(
        PROMPT, max_new_tokens=40, stop=[stop], return_full_text=False
    )
    assert text == whole.split(stop)[0] + stop


def test_it_raises_its_own_error_for_a_wrong_parameter(hugging_face):
    with pytest.raises(ValidationError, match="`top_p`"):
        hugging_face.text_generation(PROMPT, top_p=2.0)
    with pytest.raises(ValidationError, match="`adapter_id`"):
        list(hugging_face.text_generation(PROMPT, adapter_id="x", stream=True))


def test_it_reads_what_is_served(chat_url, client):
    endpoint = InferenceClient(chat_url, provider="hf-inference")
    info = endpoint.get_endpoint_info()
    assert info["model_id"] == client.get("/health").json()["model"]["name"]
    assert info["max_total_tokens"] == 65_536
    assert endpoint.health_check() is True
