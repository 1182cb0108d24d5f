"""The ONNX runner on a tiny exported model: right, and the same bits whatever else is running."""

import pytest
from transformers import LlamaForCausalLM

from engine.config import EngineConfig
from engine.errors import StepTooSmall
from engine.onnx_runner import OnnxRunner
from engine.row_runner import PIECE_TOKENS
from engine.torch_runner import TorchRunner
from optimize.onnx_manifest import GRAPH_FILE
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import CONTEXT_LENGTH, build_requests, decoder_shape, run


def load_runner(exported, config):
    folder, manifest = exported
    return OnnxRunner.load(
        folder / GRAPH_FILE, decoder_shape(manifest), config, vocab_size=manifest.vocab_size
    )


def test_answers_are_those_of_the_torch_runner(exported, tiny_llama_folder):
    if exported[1].scheme is not WeightScheme.FP32:
        pytest.skip("quantised weights give other numbers")
    config = EngineConfig(max_rows=12, max_step_tokens=160)
    module = LlamaForCausalLM.from_pretrained(tiny_llama_folder).eval()
    reference = TorchRunner.load(module, config, context_length=CONTEXT_LENGTH)
    requests = build_requests(exported[1].vocab_size)
    expected = run(reference, config, requests)
    found = run(load_runner(exported, config), config, requests)
    for request_id, sequences in expected.items():
        for want, got in zip(sequences, found[request_id], strict=True):
            assert got.token_ids == want.token_ids
            assert got.logprobs == pytest.approx(want.logprobs, abs=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(max_rows=12, max_step_tokens=512),
        EngineConfig(max_rows=12, max_step_tokens=12 + PIECE_TOKENS),
        EngineConfig(max_rows=4, max_step_tokens=100),
    ],
    ids=["roomy", "in pieces", "few rows"],
)
def test_answers_are_the_same_bits_alone_and_in_company(exported, config):
    requests = build_requests(exported[1].vocab_size)
    together = run(load_runner(exported, config), config, requests)
    for request in requests:
        alone = run(load_runner(exported, config), config, [request])
        assert together[request.request_id] == alone[request.request_id]


def test_a_prompt_found_in_the_cache_gives_the_same_bits(exported):
    config = EngineConfig(max_rows=12)
    requests = build_requests(exported[1].vocab_size)
    runner = load_runner(exported, config)
    first = run(runner, config, requests)
    engine_again = run(runner, config, requests)
    assert engine_again == first
    known = runner.cache.match_prefix(10**6, requests[0].prompt_ids, "")
    assert known >= PIECE_TOKENS


def test_a_step_that_leaves_no_room_for_a_piece_of_a_prompt_is_refused(exported):
    with pytest.raises(StepTooSmall, match="max_step_tokens"):
        load_runner(exported, EngineConfig(max_rows=12, max_step_tokens=11 + PIECE_TOKENS))
