"""Traces over HTTP: asked for in `details`, bounded, and of no cost to who does not ask."""

import math

import pytest

from app.bodies.request_fields import GenerateBody
from decoding.registry import STRATEGIES

BODY = {"text": "what is the best way to learn", "seed": 3, "max_new_tokens": 9}
TRACE = {"trace": True, "trace_candidates": 3}


def way_of(strategy):
    more = {"force_words": ["g"]} if strategy == "constrained_beam" else {}
    return {**BODY, "strategy": strategy, **more}


def path_of(trace, end):
    """The nodes that lead to one, without the prompt."""
    nodes = {node["id"]: node for step in trace["steps"] for node in step["nodes"]}
    path = []
    while nodes[end]["parent"] is not None:
        path.append(nodes[end])
        end = nodes[end]["parent"]
    return path[::-1]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_way_to_each_sequence_is_its_tokens(service, strategy):
    several = {} if strategy in ("greedy", "contrastive", "dola") else {"num_return_sequences": 2}
    way = {**way_of(strategy), **several}
    plain = await service.generate(**way, details=True)
    answer = await service.generate(**way, details=TRACE)
    assert answer["generated_text"] == plain["generated_text"]
    assert "trace" not in plain["details"]
    trace = answer["details"]["trace"]
    assert not trace["truncated"]
    assert len(trace["sequences"]) == len(answer["details"]["tokens"])
    for end, tokens in zip(trace["sequences"], answer["details"]["tokens"], strict=True):
        path = path_of(trace, end)
        assert [(each["token"], each["text"]) for each in path] == [
            (token["id"], token["text"]) for token in tokens
        ]
        assert path[-1]["finish_reason"] in ("eos", "length")
    if "sequences" in answer:
        finals = [path_of(trace, end)[-1].get("final_score") for end in trace["sequences"]]
        if "beam" in strategy:
            assert finals == [each["score"] for each in answer["sequences"]]


async def test_a_candidate_shows_what_processing_made_of_it(service):
    answer = await service.generate(
        **way_of("top_k"), top_k=2, suppress_tokens=[71], logit_bias={"72": 30.0}, details=TRACE
    )
    root = answer["details"]["trace"]["steps"][0]["nodes"][0]
    assert (root["parent"], root["token"], root["text"]) == (None, None, "")
    assert "score" not in root
    left = [each for each in root["candidates"] if each["processed_logprob"] is not None]
    assert len(left) == 2
    assert left[0]["id"] == 72
    assert sum(math.exp(each["processed_logprob"]) for each in left) == pytest.approx(1, abs=1e-4)
    for each in root["candidates"]:
        if each["processed_logprob"] is None:
            assert each["outcome"] == "filtered"
    outcomes = [each["outcome"] for each in root["candidates"]]
    assert outcomes.count("continued") == 1


@pytest.mark.parametrize("strategy", ["sample", "beam"])
async def test_a_stream_brings_the_trace_with_its_last_event(service, strategy):
    way = {**way_of(strategy), "details": TRACE, "cache": False}
    whole = await service.generate(**way)
    *events, (name, done) = await service.stream(**way)
    assert name == "done"
    assert done["details"]["trace"] == whole["details"]["trace"]
    assert all("details" not in data for _, data in events)


async def test_a_stop_string_and_a_grammar_show_in_a_trace(service):
    shape = {"structured_outputs": {"regex": "[ab]{3}-[0-9]{2}"}}
    answer = await service.generate(**way_of("beam"), **shape, details=TRACE)
    trace = answer["details"]["trace"]
    (end,) = trace["sequences"]
    assert "filtered" in {each["outcome"] for each in path_of(trace, end)[0]["candidates"]}
    text = answer["generated_text"].removeprefix(BODY["text"])
    cut = await service.generate(**way_of("beam"), **shape, stop=text[2:4], details=TRACE)
    trace = cut["details"]["trace"]
    assert path_of(trace, trace["sequences"][0])[-1]["finish_reason"] == "stop"


async def test_a_trace_is_cut_and_says_so(service):
    answer = await service.generate(
        **way_of("sample"), details={"trace": True, "max_trace_steps": 4}
    )
    trace = answer["details"]["trace"]
    assert trace["truncated"]
    assert len(trace["steps"]) == 5
    assert len(answer["details"]["tokens"][0]) == 9
    assert len(path_of(trace, trace["sequences"][0])) == 4


async def test_the_cache_answers_only_who_asks_for_the_same_trace(service):
    way = {**way_of("greedy"), "text": "a text of its own"}
    first = await service.generate(**way, details=TRACE)
    again = await service.generate(**way, details=TRACE)
    other = await service.generate(**way, details={"trace": True, "trace_candidates": 2})
    plain = await service.generate(**way, details=True)
    assert [each["cached"] for each in (first, again, other, plain)] == [False, True, False, False]
    assert first["details"]["trace"] == again["details"]["trace"]
    assert "trace" not in plain["details"]


async def test_jobs_and_lists_bring_traces_too(service):
    way = {**way_of("beam"), "text": ["one text", "another text"], "details": TRACE}
    answers = (await service.generate(**way))["results"]
    assert all(answer["details"]["trace"]["steps"] for answer in answers)
    location = (await service.post("/generate_async", **way)).headers["location"]
    await service.until(lambda: service.parts.jobs.get(location.split("/")[-1]).has_finished)
    job = (await service.client.get(location)).json()
    assert [answer["details"]["trace"] for answer in job["result"]["results"]] == [
        answer["details"]["trace"] for answer in answers
    ]


async def test_an_empty_object_asks_for_details_alone(service):
    answer = await service.generate(**way_of("greedy"), details={})
    assert answer["details"]["tokens"]
    assert "trace" not in answer["details"]


@pytest.mark.parametrize(
    ("details", "param"),
    [
        ({"trace": 1}, "details.trace"),
        ({"trace": True, "trace_candidates": 0}, "details.trace_candidates"),
        ({"trace": True, "trace_candidates": 21}, "details.trace_candidates"),
        ({"trace": True, "trace_candidates": 2.0}, "details.trace_candidates"),
        ({"trace": True, "max_trace_steps": 1025}, "details.max_trace_steps"),
        ({"trace": True, "max_trace_steps": 0}, "details.max_trace_steps"),
        ({"trace": True, "steps": 5}, "details.steps"),
        ({"trace_candidates": 5}, "details"),
        ({"trace": False, "max_trace_steps": 5}, "details"),
        (1, "details"),
        ("trace", "details"),
        (None, "details"),
    ],
    ids=str,
)
async def test_a_wrong_wish_is_refused_by_name(service, details, param):
    response = await service.post(**BODY, details=details)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["param"] == param


def test_it_is_off_unless_asked_for():
    assert GenerateBody.model_fields["details"].default is False
