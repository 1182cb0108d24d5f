"""Scores against what generation reports, decisions against the scores of their labels."""

import asyncio
import json
import math

import pytest

TEXT = "what is the best way"


async def post(service, path, **body):
    response = await service.post(path, **body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_continuation_scores_what_generating_it_reported(service):
    answer = await service.generate(
        text=TEXT, strategy="greedy", max_new_tokens=1, details=True, return_full_text=False
    )
    ((token,),) = answer["details"]["tokens"]
    scored = await post(
        service, "/score", text=TEXT, continuations=[" lazy dog", token["text"], "q"]
    )
    assert [each["index"] for each in scored["results"]] == [0, 1, 2]
    assert scored["input_length"] == answer["input_length"]
    if scored["results"][1]["tokens"][0]["id"] == token["id"]:
        assert scored["results"][1]["logprob"] == pytest.approx(token["logprob"], abs=1e-4)
    for result in scored["results"]:
        logprobs = [each["logprob"] for each in result["tokens"]]
        assert result["logprob"] == pytest.approx(sum(logprobs))
        assert result["mean_logprob"] == pytest.approx(sum(logprobs) / len(logprobs))
    best = max(scored["results"], key=lambda each: each["logprob"])
    assert scored["best"] == best["index"]


async def test_scores_are_the_chain_of_conditional_probabilities(service):
    words = [" the", " lazy", " dog"]
    whole = await post(service, "/score", text=TEXT, continuations=["".join(words)])
    step_by_step = 0.0
    for at, word in enumerate(words):
        scored = await post(
            service, "/score", text=TEXT + "".join(words[:at]), continuations=[word]
        )
        step_by_step += scored["results"][0]["logprob"]
    assert whole["results"][0]["logprob"] == pytest.approx(step_by_step, abs=1e-3)


async def test_scores_are_the_same_beside_other_work(service):
    body = {"text": TEXT, "continuations": [" to learn", " dog"]}
    alone = await post(service, "/score", **body)
    crowd = await asyncio.gather(
        post(service, "/score", **body),
        *(service.generate(text=TEXT, strategy="beam", max_new_tokens=20) for _ in range(3)),
        post(service, "/score", **body),
    )
    for scored in (crowd[0], crowd[-1]):
        for ours, theirs in zip(scored["results"], alone["results"], strict=True):
            assert ours["logprob"] == pytest.approx(theirs["logprob"], abs=1e-4)
    await service.until(service.is_idle)


QUESTIONS = {
    "spam": {"type": "noul", "instructions": "Is it spam?", "criteria": {"true": "unsolicited"}},
    "tone": {"type": "choice", "criteria": {"calm": "polite", "pushy": None, "angry": "rude"}},
    "urgency": {"type": "score", "instructions": "How urgent?", "criteria": ["low", "mid", "high"]},
}


@pytest.fixture
def _single_letters(monkeypatch):
    """The tiny tokenizer splits Yes and No; the labels of these tests are letters it has."""
    monkeypatch.setattr("app.text.questions.YES_NO", ("Y", "N"))


@pytest.mark.usefixtures("_single_letters")
async def test_every_kind_of_question_is_answered_with_probabilities(service):
    decided = await post(
        service, "/v1/systemone", state={"message": "win a prize"}, questions=QUESTIONS
    )
    answers = decided["answers"]
    assert list(answers) == list(QUESTIONS)
    assert 0 < answers["spam"]["noul"] < 1
    tone = answers["tone"]
    assert set(tone["probabilities"]) == {"calm", "pushy", "angry"}
    assert sum(tone["probabilities"].values()) == pytest.approx(1.0)
    assert tone["choice"] == max(tone["probabilities"], key=tone["probabilities"].get)
    best = tone["probabilities"][tone["choice"]]
    assert tone["confidence"] == pytest.approx((best - 1 / 3) / (2 / 3))
    urgency = answers["urgency"]
    assert urgency["legend"] == {"0": "low", "1": "mid", "2": "high"}
    assert urgency["score"] == pytest.approx(
        sum(int(level) * p for level, p in urgency["probabilities"].items())
    )
    assert decided["usage"]["output_tokens"] == 0
    assert decided["usage"]["input_tokens"] > 20


@pytest.mark.usefixtures("_single_letters")
async def test_probabilities_are_the_models_own_of_the_labels(service):
    state = "the quick brown fox"
    decided = await post(service, "/v1/systemone", state=state, questions={"q": QUESTIONS["tone"]})
    content = (
        f"{state}\n\nA) calm - polite\nB) pushy\nC) angry - rude\nReply with one letter, A to C."
    )
    prompt = f"<|user|>{content}\n<|assistant|>"
    scored = await post(service, "/score", text=prompt, continuations=["A", "B", "C"])
    weights = [math.exp(each["logprob"]) for each in scored["results"]]
    shares = [weight / sum(weights) for weight in weights]
    found = list(decided["answers"]["q"]["probabilities"].values())
    assert found == pytest.approx(shares, abs=1e-4)


async def test_labels_without_a_token_of_their_own_are_refused(service):
    response = await service.post("/v1/systemone", state="x", questions={"q": {"type": "noul"}})
    assert response.status_code == 422
    assert "no single tokens for the labels Yes, No" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/score", {"text": TEXT, "continuations": []}, "continuations"),
        ("/score", {"text": TEXT, "continuations": [""]}, "continuations.0"),
        ("/score", {"text": TEXT, "continuations": ["a" * 500]}, "continuations.0"),
        ("/score", {"text": TEXT}, "continuations"),
        ("/score", {"text": TEXT, "continuations": ["a"], "top_k": 1}, "top_k"),
        ("/v1/systemone", {"state": "x", "questions": {}}, "questions"),
        ("/v1/systemone", {"state": "x", "questions": {"q": {"type": "odd"}}}, "questions.q"),
        (
            "/v1/systemone",
            {"state": "x", "questions": {"q": {"type": "choice", "criteria": {}}}},
            "questions.q",
        ),
        ("/v1/systemone", {"state": "x", "questions": QUESTIONS, "assets": {"a": {}}}, "assets"),
        ("/v1/systemone", {"questions": QUESTIONS}, "state"),
    ],
    ids=str,
)
async def test_mistakes_are_refused_by_name(service, path, body, param):
    response = await service.post(path, **body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize("field", ["state", "questions"])
async def test_half_characters_are_refused_by_field(service, field):
    half = "\ud83d"
    asked = {
        "state": {"a": half if field == "state" else "b"},
        "questions": {half if field == "questions" else "q": {"type": "noul"}},
    }
    response = await service.client.post(
        "/v1/systemone", content=json.dumps(asked), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422, response.text
    assert response.json()["error"]["param"] == field
