"""Names of answers: one for each key, the same in every process, and telling nothing."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from app.generation.cache_key import CacheKey, ModelIdentity
from app.generation.shared_cache import digest as module
from app.generation.shared_cache.digest import KeyDigest
from app.text.grammar.spec import GrammarKind, GrammarSpec
from decoding.adjustments import Watermark
from engine.messages import NegativePrompt
from engine.trace import TraceOptions
from tests.app.generation.shared_cache.answers import MODEL, key

SECRET = b"a secret that replicas share, only they"
REGEX = GrammarSpec(kind=GrammarKind.REGEX, text="a+", origin="structured_outputs.regex")
CHANGES = [
    {"model": replace(MODEL, name="other")},
    {"model": replace(MODEL, revision="2")},
    {"model": ModelIdentity(name="tiny", revision="1", runtime="onnx")},
    {"prompt_ids": (1, 2)},
    {"prompt_ids": (1, 23)},
    {"strategy": "beam"},
    {"parameters": (("num_return_sequences", "2"),)},
    {"parameters": ()},
    {"max_new_tokens": 6},
    {"stop": ("a",)},
    {"stop": ("a", "b")},
    {"stop": ("ab",)},
    {"stop": ("\ud800",)},
    {"keeps_stop": True},
    {"adjustments": (("repetition_penalty", 1.1),)},
    {"adjustments": (("logit_bias", ((5, 1.0),)),)},
    {"adjustments": (("bad_words", ("a",)),)},
    {"adjustments": (("watermark", Watermark()),)},
    {"grammar": REGEX},
    {"grammar": replace(REGEX, text="a*")},
    {"grammar": replace(REGEX, kind=GrammarKind.GRAMMAR)},
    {"guidance": NegativePrompt(prompt_ids=(7,), scale=1.5)},
    {"guidance": NegativePrompt(prompt_ids=(7,), scale=2.5)},
    {"top_logprobs": 1},
    {"prompt_logprobs": 0},
    {"prompt_logprobs": 1},
    {"trace": TraceOptions(num_candidates=3, max_steps=4)},
    {"seed": 0},
    {"seed": 2**64 - 1},
    {"tenant": b"one"},
    {"tenant": b"two"},
]


def test_every_field_counts():
    assert {name for change in CHANGES for name in change} == {f.name for f in fields(CacheKey)}
    digest = KeyDigest(None)
    found = {digest(key(**change)) for change in CHANGES}
    assert len(found | {digest(key())}) == len(CHANGES) + 1


def test_equal_keys_have_one_name_wherever_the_grammar_was_written():
    digest = KeyDigest(None)
    assert digest(key(grammar=REGEX)) == digest(key(grammar=replace(REGEX, origin="elsewhere")))


def test_every_process_gives_the_same_name():
    program = (
        "from tests.app.generation.shared_cache.answers import key\n"
        "from app.generation.shared_cache.digest import KeyDigest\n"
        "print(KeyDigest(None)(key(stop=('a', 'b'), tenant=b'one')).hex())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert found == KeyDigest(None)(key(stop=("a", "b"), tenant=b"one")).hex()


def test_secrets_give_names_of_their_own():
    assert len({KeyDigest(secret)(key()) for secret in (None, SECRET, SECRET + b"!")}) == 3


def test_other_software_and_other_machines_have_names_of_their_own(monkeypatch):
    before = KeyDigest(None)(key())
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    assert KeyDigest(None)(key()) != before
    monkeypatch.undo()
    monkeypatch.setattr(module, "version", lambda package: f"{package} of tomorrow")
    assert KeyDigest(None)(key()) != before


def test_software_that_is_not_installed_is_no_obstacle(monkeypatch):
    monkeypatch.setattr(module, "COMPUTING_PACKAGES", ("no-such-package-of-anybody",))
    assert len(KeyDigest(None)(key())) == 32


def test_what_has_no_plain_form_is_refused_and_not_guessed_at():
    with pytest.raises(TypeError, match="frozenset"):
        KeyDigest(None)(key(adjustments=(("new", frozenset({1})),)))
