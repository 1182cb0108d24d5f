"""The native runner: right, and the same bits whatever runs beside and however prompts are cut."""

from dataclasses import replace

import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import LlamaForCausalLM

from decoding.adjustments import NO_ADJUSTMENTS, Adjustments
from decoding.base import has_independent_rows
from decoding.contrastive import Contrastive
from decoding.dola import Dola
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import CacheTooLarge, CacheTooSmall
from engine.native_runner import BLOCK_TOKENS, NativeRunner
from engine.onnx_runner import OnnxRunner
from engine.plan import Plan, PlannedRow, Watched
from engine.prompt_lookup import PromptLookup
from engine.sequence import Group
from engine.sequence import Sequence as TokenSequence
from engine.torch_runner import TorchRunner
from optimize.onnx_manifest import GRAPH_FILE, NATIVE_GRAPH_FILE
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import CONTEXT_LENGTH, build_requests, decoder_shape, run
from tests.oracle.engine_run import EngineRun

ROOMY = EngineConfig(max_rows=12, block_size=BLOCK_TOKENS, num_threads=1)


@pytest.fixture
def load_runner(exported, native_library):
    folder, manifest = exported

    def load(config=ROOMY):
        return NativeRunner.load(
            folder / NATIVE_GRAPH_FILE,
            native_library,
            decoder_shape(manifest),
            config,
            vocab_size=manifest.vocab_size,
        )

    return load


@pytest.fixture
def requests(exported):
    return build_requests(exported[1].vocab_size)


def test_answers_are_those_of_the_torch_runner(exported, tiny_llama_folder, load_runner, requests):
    if exported[1].scheme is not WeightScheme.FP32:
        pytest.skip("quantised weights give other numbers")
    module = LlamaForCausalLM.from_pretrained(tiny_llama_folder).eval()
    reference = TorchRunner.load(module, ROOMY, context_length=CONTEXT_LENGTH)
    expected = run(reference, ROOMY, requests)
    found = run(load_runner(), ROOMY, requests)
    for request_id, sequences in expected.items():
        for want, got in zip(sequences, found[request_id], strict=True):
            assert got.token_ids == want.token_ids
            assert got.logprobs == pytest.approx(want.logprobs, abs=1e-3)


def test_answers_are_the_same_bits_alone_and_in_company(load_runner, requests):
    together = run(load_runner(), ROOMY, requests)
    for request in requests:
        alone = run(load_runner(), ROOMY, [request])
        assert together[request.request_id] == alone[request.request_id]


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(max_rows=12, max_step_tokens=13, block_size=BLOCK_TOKENS, num_threads=1),
        EngineConfig(max_rows=4, max_step_tokens=37, block_size=BLOCK_TOKENS, num_threads=2),
    ],
    ids=["prompts cut anywhere", "few rows, two threads"],
)
def test_answers_are_the_same_bits_however_steps_are_cut(load_runner, requests, config):
    assert run(load_runner(config), config, requests) == run(load_runner(), ROOMY, requests)


LOOKING_INSIDE = {
    "contrastive": (Contrastive(), Contrastive(top_k=2, penalty_alpha=0.9)),
    "dola": (
        Dola(dola_layers=(0, 1)),
        Dola(dola_layers=(0, 1), do_sample=True, temperature=1.5, num_return_sequences=3),
        Dola(dola_layers="high", relative_top=0.01),
    ),
}
"""Strategies that look at more than logits."""


@pytest.fixture(params=LOOKING_INSIDE)
def looking_inside(request, requests):
    """Requests of such strategies."""
    strategies = LOOKING_INSIDE[request.param]
    return [
        replace(
            each,
            request_id=f"{request.param} {at}",
            strategy=strategies[at % len(strategies)],
            max_new_tokens=40,
        )
        for at, each in enumerate(requests[:8])
    ]


def test_what_is_inside_the_model_is_what_the_torch_runner_sees(
    exported, tiny_llama_folder, load_runner, looking_inside
):
    if exported[1].scheme is not WeightScheme.FP32:
        pytest.skip("quantised weights give other numbers")
    module = LlamaForCausalLM.from_pretrained(tiny_llama_folder).eval()
    reference = TorchRunner.load(module, ROOMY, context_length=CONTEXT_LENGTH)
    expected, found = (run(one, ROOMY, looking_inside) for one in (reference, load_runner()))
    for request in looking_inside:
        pairs = zip(expected[request.request_id], found[request.request_id], strict=True)
        assert all(got.token_ids == want.token_ids for want, got in pairs)


def test_looking_inside_gives_the_same_bits_alone_in_company_and_preempted(
    exported, load_runner, requests, looking_inside
):
    asked = looking_inside
    together = run(load_runner(), ROOMY, [*requests, *asked])
    bytes_of_block = BLOCK_TOKENS * decoder_shape(exported[1]).bytes_per_token
    tight = EngineConfig(
        max_rows=12,
        max_step_tokens=50,
        block_size=BLOCK_TOKENS,
        kv_cache_bytes=61 * bytes_of_block,
        num_threads=1,
    )
    answers, num_preemptions = run_and_count(load_runner(tight), tight, asked)
    assert num_preemptions > 0
    for request in asked:
        alone = run(load_runner(), ROOMY, [request])[request.request_id]
        assert together[request.request_id] == alone
        assert answers[request.request_id] == alone


def test_hidden_states_are_those_of_the_model(exported, tiny_llama_folder, load_runner, requests):
    prompt_ids = requests[0].prompt_ids
    runner = load_runner()
    row = TokenSequence(id=1, prompt_ids=prompt_ids)
    runner.cache.match_prefix(row.id, (), "")
    assert runner.cache.reserve(row.id, 0, len(prompt_ids))
    planned = PlannedRow(row, 0, len(prompt_ids), num_logits=len(prompt_ids))
    decoder = Contrastive().start(requests[0].task)
    group = Group(requests[0], decoder, decoder.ask, (0.0, 0), 0.0, [row])
    said = runner.forward(Plan(rows=(planned,), stepping=(), watched=(Watched(planned, group),)))
    module = LlamaForCausalLM.from_pretrained(tiny_llama_folder).eval()
    with torch.inference_mode():
        read = module(torch.tensor([prompt_ids]), output_hidden_states=True)
    expected = read.hidden_states[-1][0]
    distance = (said.hidden - expected).norm(dim=1) / expected.norm(dim=1)
    stored = onnx.load(exported[0] / NATIVE_GRAPH_FILE).graph.initializer
    (factors,) = (numpy_helper.to_array(each) for each in stored if each.name == "hidden/factors")
    divided = said.hidden / torch.from_numpy(factors.copy())  # as the head wants them
    is_nearer = (said.hidden - expected).norm() < (divided - expected).norm()
    assert is_nearer == (exported[1].scheme is WeightScheme.W8A8)
    assert distance.median() < (1e-4 if exported[1].scheme is WeightScheme.FP32 else 0.1)


def test_drafts_do_not_change_a_bit(load_runner, requests):
    bias = Adjustments(logit_bias=((7, 9.0), (8, 9.0)))  # so that guesses are right now and then
    plain = [
        replace(request, adjustments=bias)
        for request in requests
        if has_independent_rows(request.strategy)
    ]
    lookup = PromptLookup(num_tokens=5, max_ngram_size=2)
    drafted = [replace(request, lookup=lookup) for request in plain]
    engine = Engine(load_runner(), ROOMY)
    found = EngineRun(engine)
    found.submit(*drafted)
    found.finish()
    expected = run(load_runner(), ROOMY, plain)
    stats = engine.stats()
    assert 0 < stats.num_accepted_draft_tokens < stats.num_draft_tokens
    for request in plain:
        sequences = found.finished[request.request_id].sequences
        assert sequences == expected[request.request_id]


def guessed(requests):
    """Those whose rows may carry guesses."""
    return [
        replace(request, num_speculative_tokens=4, max_new_tokens=24)
        for request in requests
        if has_independent_rows(request.strategy)
    ]


def run_with(draft, runner, config, asked):
    run = EngineRun(Engine(runner, config, draft=draft))
    run.submit(*asked)
    run.finish()
    assert draft.cache.num_used_tokens == 0
    return run


@pytest.mark.parametrize("kind", ["native", "rows", "torch"])
def test_a_draft_model_of_any_runner_does_not_change_a_bit(
    exported, tiny_llama_folder, load_runner, requests, kind
):
    folder, manifest = exported
    asked = guessed(requests)
    plain = [replace(request, num_speculative_tokens=0) for request in asked]
    expected = run(load_runner(), ROOMY, plain)
    if kind == "torch":
        module = LlamaForCausalLM.from_pretrained(tiny_llama_folder).eval()
        draft = TorchRunner.load(module, ROOMY, context_length=CONTEXT_LENGTH)
    elif kind == "rows":
        shape, size = decoder_shape(manifest), manifest.vocab_size
        draft = OnnxRunner.load(folder / GRAPH_FILE, shape, ROOMY, vocab_size=size)
    else:
        draft = load_runner()
    found = run_with(draft, load_runner(), ROOMY, asked)
    for request in asked:
        sequences = found.finished[request.request_id].sequences
        assert sequences == expected[request.request_id]
    # Greedy rows choose what the same model guesses, whatever became of the rows beside them;
    # weights in 8 bits are not quite the same model.
    is_same = kind != "torch" or manifest.scheme is WeightScheme.FP32
    greedy = [replace(r, adjustments=NO_ADJUSTMENTS) for r in asked if r.strategy.is_deterministic]
    stats = run_with(draft, load_runner(), ROOMY, greedy).engine.stats()
    least = 0.9 if is_same else 0.5
    assert stats.num_accepted_draft_tokens > least * stats.num_draft_tokens > 0


def test_a_draft_model_does_not_change_a_bit_of_preempted_sequences(
    exported, load_runner, requests
):
    asked = [
        replace(request, max_new_tokens=90)
        for request in guessed(requests)
        if request.strategy.num_rows == 1
    ]
    bytes_of_block = BLOCK_TOKENS * decoder_shape(exported[1]).bytes_per_token
    tight = replace(ROOMY, kv_cache_bytes=40 * bytes_of_block)
    found = run_with(load_runner(), load_runner(tight), tight, asked)
    assert found.engine.stats().num_preemptions > 0
    assert found.engine.stats().num_accepted_draft_tokens > 0
    plain = [replace(request, num_speculative_tokens=0) for request in asked]
    expected = run(load_runner(), ROOMY, plain)
    for request in asked:
        sequences = found.finished[request.request_id].sequences
        assert sequences == expected[request.request_id]


def test_preempted_sequences_get_the_same_bits(exported, load_runner, requests):
    bytes_of_block = BLOCK_TOKENS * decoder_shape(exported[1]).bytes_per_token
    tight = EngineConfig(
        max_rows=12,
        block_size=BLOCK_TOKENS,
        kv_cache_bytes=45 * bytes_of_block,
        num_threads=1,
    )
    requests = [r for r in requests if r.strategy.num_rows == 1]
    runner = load_runner(tight)
    answers, num_preemptions = run_and_count(runner, tight, requests)
    assert num_preemptions > 0
    assert answers == run(load_runner(), ROOMY, requests)


def run_and_count(runner, config, requests):
    seen = []
    answers = run(runner, config, requests, at_once=len(requests), seen=seen)
    return answers, seen[-1].num_preemptions


def test_a_prompt_found_in_the_cache_gives_the_same_bits(load_runner, requests):
    runner = load_runner()
    first = run(runner, ROOMY, requests)
    assert run(runner, ROOMY, requests) == first
    prompt = requests[0].prompt_ids
    known = runner.cache.match_prefix(10**6, prompt, "")
    assert known == (len(prompt) - 1) // BLOCK_TOKENS * BLOCK_TOKENS


def test_a_cache_that_is_too_small_or_too_large_is_refused(load_runner):
    with pytest.raises(CacheTooSmall, match="raise kv_cache_bytes"):
        load_runner(EngineConfig(max_rows=12, kv_cache_bytes=2**12))
    with pytest.raises(CacheTooLarge, match="lower kv_cache_bytes"):
        load_runner(EngineConfig(max_rows=10**9, max_step_tokens=10**9, kv_cache_bytes=2**50))
