"""`POST /generate` end to end on a real engine: every field shows its effect."""

import json

import pytest

from tests.app.driven_service import stop_within

PROMPT = "the quick brown"
STRATEGIES = ["greedy", "sample", "top_k", "top_p", "beam", "beam_sample", "best_of"]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_each_strategy_answers_with_its_effective_parameters(service, strategy):
    answer = await service.generate(text=PROMPT, strategy=strategy, max_new_tokens=6, seed=1)
    assert answer["strategy"] == strategy
    assert answer["generated_text"].startswith(PROMPT)
    assert answer["parameters"]["max_new_tokens"] == 6
    assert answer["output_length"] == answer["input_length"] + 6
    assert answer["finish_reason"] == "length"
    assert answer["model"] == "tiny"
    assert answer["cached"] is False


async def test_without_a_strategy_it_samples_with_the_documented_defaults(service):
    answer = await service.generate(text=PROMPT)
    assert answer["strategy"] == "sample"
    parameters = answer["parameters"]
    assert (parameters["temperature"], parameters["top_k"], parameters["top_p"]) == (1.0, 50, 0.95)
    assert parameters["max_new_tokens"] == 50


async def test_text_is_the_prompt_and_its_continuation(service):
    full = await service.generate(text=PROMPT, strategy="greedy", max_new_tokens=8)
    new = await service.generate(
        text=PROMPT, strategy="greedy", max_new_tokens=8, return_full_text=False
    )
    assert full["generated_text"] == PROMPT + new["generated_text"]
    assert new["parameters"]["return_full_text"] is False


async def test_continuations_are_what_the_tokenizer_decodes(service, byte_level_tokenizer):
    answer = await service.generate(
        text=PROMPT, strategy="greedy", return_full_text=False, details=True
    )
    ids = [token["id"] for token in answer["details"]["tokens"][0]]
    decoded = byte_level_tokenizer.decode(ids, skip_special_tokens=True)
    assert answer["generated_text"] == decoded


async def test_messages_are_rendered_and_answered_without_the_prompt(service):
    turns = [{"role": "user", "content": "what is the best way"}]
    rendered = "<|user|>what is the best way\n<|assistant|>"
    chat = await service.generate(messages=turns, strategy="greedy", max_new_tokens=5)
    text = await service.generate(text=rendered, strategy="greedy", max_new_tokens=5)
    assert rendered + chat["generated_text"] == text["generated_text"]
    full = await service.generate(
        messages=turns, strategy="greedy", max_new_tokens=5, return_full_text=True
    )
    assert full["generated_text"] == text["generated_text"]


async def test_max_length_counts_the_prompt(service):
    answer = await service.generate(text=PROMPT, strategy="greedy", max_length=12)
    assert answer["output_length"] == 12
    assert answer["parameters"]["max_new_tokens"] == 12 - answer["input_length"]


async def test_a_seed_makes_a_random_answer_repeatable(service):
    first = await service.generate(text=PROMPT, seed=7, cache=False)
    again = await service.generate(text=PROMPT, seed=7, cache=False)
    other = await service.generate(text=PROMPT, seed=8, cache=False)
    assert first["generated_text"] == again["generated_text"] != other["generated_text"]
    assert first["seed"] == 7


async def test_a_seed_drawn_by_the_server_gives_the_same_answer_again(service):
    first = await service.generate(text=PROMPT)
    assert 0 <= first["seed"] < 2**53
    again = await service.generate(text=PROMPT, seed=first["seed"])
    assert again["generated_text"] == first["generated_text"]


async def test_strategies_without_randomness_echo_the_seed(service):
    assert (await service.generate(text=PROMPT, strategy="greedy"))["seed"] is None
    assert (await service.generate(text=PROMPT, strategy="greedy", seed=5))["seed"] == 5


@pytest.mark.parametrize("as_list", [True, False])
async def test_a_stop_string_ends_the_text_before_it(service, as_list):
    whole = await service.generate(text=PROMPT, strategy="greedy", return_full_text=False)
    stop = stop_within(whole["generated_text"])
    answer = await service.generate(
        text=PROMPT,
        strategy="greedy",
        return_full_text=False,
        stop=[stop, stop, "never there"] if as_list else stop,
    )
    assert answer["generated_text"] == whole["generated_text"].split(stop)[0]
    assert answer["finish_reason"] == "stop"
    assert answer["output_length"] < whole["output_length"]
    assert answer["parameters"]["stop"] == ([stop, "never there"] if as_list else [stop])


async def test_a_text_can_keep_the_stop_string_that_ended_it(service):
    body = {"text": PROMPT, "strategy": "greedy", "return_full_text": False}
    whole = (await service.generate(**body))["generated_text"]
    stop = stop_within(whole)
    cut = await service.generate(**body, stop=stop)
    kept = await service.generate(**body, stop=stop, include_stop_str_in_output=True)
    assert kept["generated_text"] == cut["generated_text"] + stop
    assert kept["finish_reason"] == "stop"
    assert kept["output_length"] == cut["output_length"]
    assert kept["parameters"]["include_stop_str_in_output"] is True
    assert kept["cached"] is False
    events = await service.stream(**body, stop=stop, include_stop_str_in_output=True)
    assert (
        "".join(data["text"] for name, data in events if name == "token")
        == (kept["generated_text"])
    )


async def test_keeping_a_stop_string_needs_one(service):
    response = await service.post(text=PROMPT, include_stop_str_in_output=True)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "include_stop_str_in_output"


async def test_a_prompt_can_be_cut_to_its_last_tokens(service, byte_level_tokenizer):
    ids = byte_level_tokenizer.encode(PROMPT)
    body = {"strategy": "greedy", "max_new_tokens": 8}
    cut = await service.generate(text=PROMPT, truncate_prompt_tokens=2, **body)
    rest = byte_level_tokenizer.decode(ids[-2:])
    same = await service.generate(text=rest, return_full_text=False, **body)
    assert cut["input_length"] == same["input_length"] == 2
    assert cut["generated_text"] == PROMPT + same["generated_text"]
    assert cut["parameters"]["truncate_prompt_tokens"] == 2
    whole = await service.generate(text=PROMPT, truncate_prompt_tokens=len(ids) + 1, **body)
    assert whole["input_length"] == len(ids)


async def test_a_cut_prompt_fits_the_context(service):
    long = await service.generate(
        text="the fox " * 500, truncate_prompt_tokens=100, max_new_tokens=5
    )
    assert long["input_length"] == 100


async def test_the_end_token_ends_the_text_and_does_not_show(service, byte_level_tokenizer):
    answer = await service.generate(
        text=PROMPT,
        temperature=3.0,
        top_k=0,
        top_p=1.0,
        seed=0,
        max_new_tokens=100,
        num_return_sequences=8,
        details=True,
    )
    ended = [one for one in answer["sequences"] if one["finish_reason"] == "eos"]
    assert ended
    for sequence in ended:
        tokens = answer["details"]["tokens"][sequence["index"]]
        assert tokens[-1]["id"] == byte_level_tokenizer.eos_token_id
        assert sequence["output_length"] == answer["input_length"] + len(tokens)
        assert "</s>" not in sequence["generated_text"]


async def test_several_samples_are_all_returned(service):
    answer = await service.generate(text=PROMPT, num_return_sequences=3, seed=1, max_new_tokens=9)
    sequences = answer["sequences"]
    assert [sequence["index"] for sequence in sequences] == [0, 1, 2]
    assert len({sequence["generated_text"] for sequence in sequences}) == 3
    assert sequences[0]["generated_text"] == answer["generated_text"]
    assert "score" not in sequences[0]


async def test_beams_show_their_scores_best_first(service):
    answer = await service.generate(
        text=PROMPT, strategy="beam", num_beams=4, num_return_sequences=3, max_new_tokens=6
    )
    scores = [sequence["score"] for sequence in answer["sequences"]]
    assert scores == sorted(scores, reverse=True)
    one = await service.generate(text=PROMPT, strategy="beam", num_beams=4, max_new_tokens=6)
    assert one["score"] == answer["score"] == scores[0]
    assert "sequences" not in one


@pytest.mark.parametrize(
    ("strategy", "changed"),
    [
        ("greedy", {"repetition_penalty": 50.0}),
        ("sample", {"temperature": 0.01}),
        ("sample", {"top_k": 1}),
        ("sample", {"top_p": 0.01}),
        ("sample", {"min_p": 1.0}),
        ("sample", {"repetition_penalty": 50.0}),
        ("top_k", {"top_k": 1}),
        ("top_p", {"top_p": 0.01}),
        ("beam", {"num_beams": 1}),
        ("beam", {"repetition_penalty": 50.0}),
        ("beam", {"length_penalty": -2.0}),
    ],
)
async def test_each_parameter_of_a_strategy_changes_the_answer(service, strategy, changed):
    body = {"text": PROMPT, "strategy": strategy, "seed": 3, "max_new_tokens": 30}
    plain = await service.generate(**body)
    answer = await service.generate(**body | changed)
    assert answer["parameters"] == plain["parameters"] | changed
    assert (answer["generated_text"], answer.get("score")) != (
        plain["generated_text"],
        plain.get("score"),
    )


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
async def test_early_stopping_takes_all_its_values(service, early_stopping):
    answer = await service.generate(
        text=PROMPT, strategy="beam", early_stopping=early_stopping, max_new_tokens=4
    )
    assert answer["parameters"]["early_stopping"] == early_stopping


async def test_details_give_timings_and_tokens(service):
    answer = await service.generate(
        text=PROMPT, num_return_sequences=2, seed=1, max_new_tokens=4, details=True
    )
    details = answer["details"]
    assert [len(tokens) for tokens in details["tokens"]] == [4, 4]
    assert all(token["logprob"] <= 0 for tokens in details["tokens"] for token in tokens)
    timings = details["timings"]
    assert set(timings) == {
        *("queue_seconds", "prefill_seconds", "decode_seconds"),
        *("total_seconds", "tokens_per_second"),
    }
    assert timings["total_seconds"] >= timings["decode_seconds"] >= 0
    assert details["num_preemptions"] == 0


async def test_details_tell_of_prompt_tokens_found_in_the_engines_cache(service):
    text = "what is the best way to learn a language? read, write and speak it every day"
    await service.generate(text=text, strategy="greedy", max_new_tokens=2)
    answer = await service.generate(text=text, seed=1, max_new_tokens=2, details=True)
    assert answer["details"]["num_cached_prompt_tokens"] > 0


async def test_an_empty_text_begins_with_the_begin_token(service):
    answer = await service.generate(text="", strategy="greedy", max_new_tokens=3)
    assert (answer["input_length"], answer["output_length"]) == (1, 4)


async def test_texts_of_a_list_answer_in_order_as_they_would_alone(service):
    texts = ["the dog", "", "numbers 0 1"]
    body = {"strategy": "sample", "seed": 4, "max_new_tokens": 6, "cache": False}
    alone = [await service.generate(text=text, **body) for text in texts]
    assert (await service.generate(text=texts, **body)) == {"results": alone}


async def test_a_bad_text_of_a_list_is_reported_beside_the_good_ones(service):
    response = await service.post(text=["the dog", "dog " * 200], max_new_tokens=6)
    assert response.status_code == 200
    good, bad = response.json()["results"]
    assert good["output_length"] > 6
    assert bad["error"]["code"] == "context_length_exceeded"
    assert bad["error"]["param"] == "text.1"


async def test_a_list_fails_only_if_all_its_texts_do(service):
    response = await service.post(text=["dog " * 200] * 20, max_new_tokens=6)
    assert response.status_code == 422
    body = response.json()
    assert body["error"]["message"].startswith("Text 0:")
    assert [error["param"] for error in body["errors"]] == [f"text.{index}" for index in range(10)]
    assert len(body["errors"]) == 10


async def test_too_long_a_request_is_refused_with_the_numbers(service):
    response = await service.post(text=PROMPT, max_new_tokens=1000)
    error = response.json()["error"]
    prompt = (await service.generate(text=PROMPT, max_new_tokens=1))["input_length"]
    assert response.status_code == 422
    assert error["param"] == "max_new_tokens"
    assert f"{prompt} prompt tokens and 1000 new ones" in error["message"]
    assert "128 tokens" in error["message"]
    assert f"at most {128 - prompt} new" in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"text": "dog " * 200}, "text", "context_length_exceeded"),
        ({"text": "dog", "max_length": 1}, "max_length", "invalid_value"),
        ({"text": "dog", "max_length": 129}, "max_length", "context_length_exceeded"),
        (
            {"text": "dog", "num_return_sequences": 9},
            "num_return_sequences",
            "too_many_sequences",
        ),
        ({"text": "dog", "strategy": "beam", "num_beams": 9}, "num_beams", "too_many_sequences"),
    ],
)
async def test_what_cannot_fit_is_refused_by_field(service, body, param, code):
    response = await service.post(**body)
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)


async def test_a_full_queue_is_a_503_that_says_when_to_come_back(service, max_waiting_requests):
    service.hold()
    async with service.call("/generate", {"text": PROMPT}) as running:
        await service.held()
        waiting = {"text": ["dog"] * (max_waiting_requests + 1), "max_new_tokens": 1}
        async with service.call("/generate", waiting):
            await service.until(lambda: rejections(service) > 0)
            response = await service.post(text="one more")
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "queue_full"
            assert int(response.headers["retry-after"]) > 0
        service.release()
        await running.task
    assert running.status == 200


def rejections(service):
    return service.metric("requests_rejected_total", reason="queue_full")


async def test_a_failed_step_is_a_500_that_asks_not_to_repeat_it(service):
    service.runner.failure = RuntimeError("device lost at 0xdeadbeef")
    response = await service.post(text=PROMPT)
    assert response.status_code == 500
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "step_failed"
    assert "0xdeadbeef" not in response.text
    service.runner.failure = None
    await service.generate(text=PROMPT)


async def test_while_draining_new_requests_are_refused(service):
    service.parts.become_draining("stopping")
    response = await service.post(text=PROMPT)
    assert response.status_code == 503
    assert "retry-after" in response.headers


async def test_aborting_ends_what_runs_and_refuses_what_follows(service):
    service.hold()
    async with service.call("/generate", {"text": PROMPT}) as running:
        await service.held()
        service.generator.abort_all("The service is stopping.")
        await running.task
        assert running.status == 503
        assert "stopping" in running.text
    assert (await service.post(text=PROMPT)).status_code == 503
    service.release()
    await service.until(service.is_idle)


async def test_metrics_count_what_was_generated(service):
    answer = await service.generate(text=PROMPT, strategy="greedy", max_new_tokens=6, cache=False)
    assert service.metric("prompt_tokens_total") == answer["input_length"]
    assert service.metric("generated_tokens_total") == 6
    assert service.metric("generations_finished_total", strategy="greedy", reason="length") == 1
    for name in ("time_to_first_token", "queue_time"):
        assert service.metric(f"{name}_seconds_count") == 1
    assert service.metric("inter_token_latency_seconds_count") == 5  # gaps between six tokens
    assert service.metric("model_inference_duration_seconds_count") == 1
    assert service.metric("response_cache_bypasses_total") == 1
    await service.post(text=PROMPT, max_new_tokens=1000)
    assert service.metric("requests_rejected_total", reason="context_length_exceeded") == 1


async def test_a_bad_request_does_not_harm_its_neighbours(service):
    service.hold()
    body = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 20, "cache": False}
    async with service.call("/generate", body) as neighbour:
        await service.held()
        assert (await service.post(text=PROMPT, temperature=-1)).status_code == 422
        service.release()
        await neighbour.task
    assert json.loads(neighbour.text) == await service.generate(**body)


async def test_a_refusal_says_what_to_do_instead(service):
    for body, remedy in (
        ({"temperature": 0}, "For no randomness use strategy greedy."),
        ({"strategy": "greedy", "num_return_sequences": 2}, "use strategy beam or sample."),
        ({"stop": "\ufffd"}, "name the text around it only"),
        ({"text": None, "messages": ["a"]}, "Input should be a JSON object"),
    ):
        response = await service.post(**{"text": "a"} | body)
        assert response.status_code == 422
        assert response.json()["error"]["message"].endswith(remedy)
