"""Every adjustment over HTTP: it changes the answer of every strategy, or is refused by name."""

from itertools import pairwise

import pytest

from decoding.registry import STRATEGIES

PROMPT = "what is the best way"
BODY = {"text": PROMPT, "seed": 3, "max_new_tokens": 12, "details": True}
WAYS = ("greedy", "sample", "beam", "beam_sample", "best_of", "mirostat")


def ids_of(answer):
    return [token["id"] for token in answer["details"]["tokens"][0]]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_bias_reaches_every_strategy(service, strategy):
    own = {"penalty_alpha": 0.1} if strategy == "contrastive" else {}  # more outweighs a bias
    answer = await service.generate(**BODY, **own, strategy=strategy, logit_bias={"7": 100.0})
    assert set(ids_of(answer)) == {7}
    assert answer["parameters"]["logit_bias"] == {"7": 100.0}


@pytest.mark.parametrize("strategy", WAYS)
async def test_penalties_change_the_answer_and_are_reported(service, strategy):
    plain = await service.generate(**BODY, strategy=strategy)
    for changed in (
        {"repetition_penalty": 50.0},
        {"logit_bias": {"7": 20.0}, "presence_penalty": 2.0},
        {"logit_bias": {"7": 20.0}, "frequency_penalty": 2.0},
        {"logit_bias": {"7": 20.0}, "dry_multiplier": 50.0, "dry_allowed_length": 1},
    ):
        answer = await service.generate(**BODY, strategy=strategy, **changed)
        assert answer["parameters"] == plain["parameters"] | changed
        assert ids_of(answer) != ids_of(plain)


@pytest.mark.parametrize("strategy", WAYS)
async def test_what_may_not_come_does_not_come(service, strategy):
    way = {**BODY, "strategy": strategy}
    (first, *_) = plain = ids_of(await service.generate(**way))
    assert first not in ids_of(await service.generate(**way, suppress_tokens=[first]))
    late = ids_of(await service.generate(**way, begin_suppress_tokens=[first]))
    assert late[0] != first
    twice = ids_of(await service.generate(**way, logit_bias={"7": 30.0}, no_repeat_ngram_size=2))
    pairs = list(pairwise(twice))
    assert len(set(pairs)) == len(pairs) == len(plain) - 1


@pytest.mark.parametrize("strategy", WAYS)
async def test_the_first_and_the_last_token_can_be_forced(service, strategy):
    way = {**BODY, "strategy": strategy}
    ids = ids_of(await service.generate(**way, forced_bos_token_id=9, forced_eos_token_id=8))
    assert (ids[0], ids[-1]) == (9, 8) or len(ids) < 12


async def test_no_end_comes_before_the_least_number_of_tokens(service, byte_level_tokenizer):
    end = byte_level_tokenizer.eos_token_id
    bias = {"logit_bias": {str(end): 100.0}}
    short = await service.generate(**BODY, strategy="greedy", **bias)
    assert ids_of(short) == [end]
    longer = await service.generate(**BODY, strategy="greedy", min_new_tokens=5, **bias)
    assert ids_of(longer).index(end) == 5


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
async def test_a_bad_word_does_not_occur_even_if_it_is_likely(
    service, strategy, byte_level_tokenizer
):
    (dog,) = byte_level_tokenizer.encode(" dog", add_special_tokens=False)
    way = {**BODY, "strategy": strategy, "logit_bias": {str(dog): 30.0}, "return_full_text": False}
    likely = await service.generate(**way)
    assert likely["generated_text"].count(" dog") > 3
    answer = await service.generate(**way, bad_words=["dog"])
    assert " dog" not in answer["generated_text"]


async def test_breakers_keep_repetitions_apart(service):
    way = {**BODY, "strategy": "greedy", "logit_bias": {"7": 20.0}}
    dry = {"dry_multiplier": 50.0, "dry_allowed_length": 1}
    free = ids_of(await service.generate(**way))
    held = ids_of(await service.generate(**way, **dry))
    text = (await service.generate(**way, return_full_text=False))["generated_text"]
    broken = ids_of(await service.generate(**way, **dry, dry_sequence_breakers=[text[:1]]))
    assert held != free == broken
    near = await service.generate(**way, **dry, dry_penalty_last_n=1)
    steep = await service.generate(**way | {"max_new_tokens": 4}, **dry, dry_base=9.0)
    assert near["parameters"]["dry_penalty_last_n"] == 1
    assert ids_of(near) == free, "one token back there is no repetition"
    assert steep["parameters"]["dry_base"] == 9.0


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"logit_bias": {"99999": 1.0}}, "logit_bias", "no token 99999"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias", "'a' is none"),
        ({"logit_bias": {"-1": 1.0}}, "logit_bias", "'-1' is none"),
        ({"logit_bias": {"1": 101.0}}, "logit_bias", "100"),
        ({"suppress_tokens": [99999]}, "suppress_tokens", "ids end at"),
        ({"begin_suppress_tokens": [99999]}, "begin_suppress_tokens", "ids end at"),
        ({"forced_bos_token_id": 99999}, "forced_bos_token_id", "ids end at"),
        ({"forced_eos_token_id": 99999}, "forced_eos_token_id", "ids end at"),
        ({"min_new_tokens": 13}, "min_new_tokens", "raise max_new_tokens"),
        ({"presence_penalty": 2.1}, "presence_penalty", "2"),
        ({"frequency_penalty": -2.1}, "frequency_penalty", "-2"),
        ({"dry_base": 0.5}, "dry_base", "1"),
        ({"dry_multiplier": 1.0, "dry_sequence_breakers": ["☃☃☃☃"]}, "dry_sequence", "shorter"),
        ({"bad_words": [""]}, "bad_words", "at least 1 character"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_refused_by_name(service, wrong, field, says):
    response = await service.client.post("/generate", json={**BODY, **wrong})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["param"].startswith(field)
    assert says in error["message"]
