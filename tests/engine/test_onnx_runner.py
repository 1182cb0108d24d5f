"""The ONNX runner on a tiny exported model: right, and the same bits whatever else is running."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import GenerationRequest, RequestFinished
from engine.onnx_runner import PIECE_TOKENS, OnnxRunner
from engine.row_store import RowShape
from engine.torch_runner import TorchRunner
from optimize.onnx_calibration import CalibrationText
from optimize.onnx_export import ExportOrder, export_onnx
from optimize.onnx_graph import GRAPH_FILE
from optimize.weight_scheme import WeightScheme
from tests.app.tiny_tokenizers import train_byte_level

CONTEXT_LENGTH = 512
TEXT = "Ships cross the wide harbour at night, and beams of light find them one by one. " * 200


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_byte_level()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[WeightScheme.FP32, WeightScheme.W8A8])
def exported(request, model_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp(request.param)
    order = ExportOrder(
        folder=model_folder,
        name="tiny",
        source_revision="r",
        scheme=request.param,
        calibration=CalibrationText(TEXT),
    )
    return target, export_onnx(order, target, progress=no_progress)


def no_progress(_stage, _fraction):
    """Exports tell how far they are; nobody listens here."""


def load_runner(exported, config):
    folder, manifest = exported
    shape = RowShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
    )
    return OnnxRunner.load(
        folder / GRAPH_FILE, shape, config, vocab_size=manifest.vocab_size, num_threads=1
    )


def build_requests(vocab_size, *, num=10, new=16):
    generator = torch.Generator().manual_seed(1)
    shared = torch.randint(vocab_size, (PIECE_TOKENS + 9,), generator=generator).tolist()
    strategies = [
        Greedy(),
        Sample(num_return_sequences=2),
        Beam(num_beams=3, num_return_sequences=2),
        Greedy(repetition_penalty=1.3),
    ]
    requests = []
    for number in range(num):
        length = int(torch.randint(1, 200, (1,), generator=generator))
        own = torch.randint(vocab_size, (length,), generator=generator).tolist()
        requests.append(
            GenerationRequest(
                request_id=str(number),
                prompt_ids=tuple(shared + own if number % 3 == 0 else own),
                strategy=strategies[number % len(strategies)],
                max_new_tokens=new,
                seed=number,
            )
        )
    return requests


def run(runner, config, requests, *, at_once=3):
    """Answers by id; requests come in while others run."""
    engine = Engine(runner, config)
    left, answers, num_steps = list(requests), {}, 0
    while left or engine.has_work:
        if num_steps % 2 == 0:
            for request in left[:at_once]:
                engine.check(request)
                assert engine.add(request) == []
            del left[:at_once]
        for event in engine.step():
            if isinstance(event, RequestFinished):
                answers[event.request_id] = event.sequences
        num_steps += 1
    assert engine.stats().num_cached_tokens == 0
    return answers


def test_answers_are_those_of_the_torch_runner(exported, model_folder):
    if exported[1].scheme is not WeightScheme.FP32:
        pytest.skip("quantised weights give other numbers")
    config = EngineConfig(max_rows=12, max_step_tokens=160)
    module = LlamaForCausalLM.from_pretrained(model_folder).eval()
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
    with pytest.raises(ValueError, match="max_step_tokens"):
        load_runner(exported, EngineConfig(max_rows=12, max_step_tokens=11 + PIECE_TOKENS))
