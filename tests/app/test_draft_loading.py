"""Loading a second model that guesses: it shares the memory, or is refused with the reason."""

import json
import shutil

import pytest

from app.draft_pairing import check_vocabularies
from app.loading import load_model
from app.settings import load_settings
from decoding.sample import Sample
from engine.attention_switch import cache_bytes_per_token
from engine.messages import GenerationRequest
from engine.native_runner import NativeRunner
from engine.torch_runner import TorchRunner
from optimize.errors import ModelRefused
from tests.app.tiny_tokenizers import train_byte_level, train_pieces
from tests.engine.exports import save_tiny_llama
from tests.oracle.engine_run import run_alone

CACHE_BYTES = 2**20


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a model of two layers, and the same with its first layer only."""
    folder = tmp_path_factory.mktemp("workshop")
    for name in ("model", "draft"):
        (folder / name).mkdir()
        save_tiny_llama(folder / name)
    config = folder / "draft" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 1}))
    return folder


def load(workshop, **options):
    given = {
        "model": str(workshop / "model"),
        "threads": 1,
        "max_rows": 8,
        "kv_cache_bytes": CACHE_BYTES,
        "cache_folder": workshop / "cache",
    }
    return load_model(load_settings(given | options), lambda _stage, _part: None)


def draft_runner_of(loaded):
    return loaded.engine._draft_model._runner


@pytest.mark.parametrize(
    ("runtime", "kind"), [("auto", NativeRunner), ("torch", TorchRunner)], ids=["auto", "torch"]
)
def test_answers_are_those_of_the_model_alone(workshop, runtime, kind):
    draft = {"draft_model": str(workshop / "draft")}
    loaded, alone = load(workshop, runtime=runtime, **draft), load(workshop, runtime=runtime)
    assert loaded.served.draft_model == "draft"
    assert alone.served.draft_model is None
    assert isinstance(loaded.engine._runner, kind)
    assert isinstance(draft_runner_of(loaded), NativeRunner)

    def answer(engine, num_speculative_tokens):
        request = GenerationRequest(
            request_id="r",
            prompt_ids=tuple(range(5, 40)),
            strategy=Sample(num_return_sequences=2, temperature=0.2),
            max_new_tokens=24,
            seed=3,
            num_speculative_tokens=num_speculative_tokens,
        )
        return run_alone(engine, request).tokens("r")

    assert answer(loaded.engine, 5) == answer(alone.engine, 0)
    assert loaded.engine.stats().num_draft_tokens > 0


def test_both_caches_fit_into_the_memory_for_one_and_hold_as_many_tokens(workshop):
    loaded = load(workshop, draft_model=str(workshop / "draft"))
    alone = load(workshop)
    tokens = loaded.engine.limits.max_cached_tokens
    draft_tokens = draft_runner_of(loaded).cache.max_tokens
    # The draft has one layer where the model has two: a third of the memory is the draft's.
    assert tokens == pytest.approx(alone.engine.limits.max_cached_tokens * 2 / 3, abs=16)
    assert draft_tokens == pytest.approx(tokens, abs=16)


def test_what_torchs_cache_takes_of_a_token_is_known_before_it_is_made(load_tiny):
    module = load_tiny(0)._module
    plain = module.config._attn_implementation
    # Two layers of keys and values, two heads of eight numbers of four bytes each.
    assert cache_bytes_per_token(module) == 2 * 2 * 2 * 8 * 4
    assert module.config._attn_implementation == plain


def test_another_vocabulary_is_refused(workshop, tmp_path):
    other = shutil.copytree(workshop / "draft", tmp_path / "other")
    file = other / "tokenizer.json"
    text = json.loads(file.read_text())
    vocabulary = text["model"]["vocab"]
    first, second = list(vocabulary)[60:62]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(text))
    with pytest.raises(ModelRefused, match=r"--draft-model other .* 2 of \d+ tokens differ"):
        load(workshop, draft_model=str(other))


def test_the_same_vocabulary_in_another_order_of_words_is_taken():
    check_vocabularies(train_byte_level(), train_byte_level(), draft_name="same")
    with pytest.raises(ModelRefused, match="with the same tokenizer"):
        check_vocabularies(train_byte_level(), train_pieces(), draft_name="pieces")


def test_a_runtime_that_cannot_check_guesses_is_refused(workshop):
    with pytest.raises(ModelRefused, match="one token of a text at a time"):
        load(workshop, draft_model=str(workshop / "draft"), native=False)


def test_a_draft_model_that_is_not_there_is_refused(workshop):
    with pytest.raises(ModelRefused, match="nowhere"):
        load(workshop, draft_model=str(workshop / "nowhere"))
