"""Tiny models exported for ONNX Runtime, requests for them, and an engine that answers them."""

import torch

from decoding.adjustments import Adjustments
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.decoder_shape import DecoderShape
from engine.engine import Engine
from engine.messages import GenerationRequest, RequestFinished
from engine.row_runner import PIECE_TOKENS
from optimize.onnx_calibration import CalibrationText
from optimize.onnx_export import ExportOrder, export_onnx
from tests.app.tiny_tokenizers import train_byte_level
from tests.tiny_llama import NO_SPECIAL_TOKENS, tiny_llama

CONTEXT_LENGTH = 512
TEXT = "Ships cross the wide harbour at night, and beams of light find them one by one. " * 200


def save_tiny_llama(folder):
    """A Llama of two layers with a byte-level tokenizer."""
    tokenizer = train_byte_level()
    tokenizer.save_pretrained(folder)
    module = tiny_llama(
        vocab_size=len(tokenizer),
        context_length=CONTEXT_LENGTH,
        hidden_size=64,
        intermediate_size=128,
        initializer_range=0.3,
        **NO_SPECIAL_TOKENS,
    )
    module.save_pretrained(folder)
    return folder


def export(folder, target, scheme):
    """The folder and manifest of an export of the model in `folder`."""
    order = ExportOrder(
        folder=folder,
        name="tiny",
        source_revision="r",
        scheme=scheme,
        calibration=CalibrationText(TEXT),
    )
    return target, export_onnx(order, target, progress=lambda _stage, _fraction: None)


def decoder_shape(manifest):
    return DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
        has_tied_embeddings=manifest.has_tied_embeddings,
    )


def build_requests(vocab_size, *, num=10, new=16):
    generator = torch.Generator().manual_seed(1)
    shared = torch.randint(vocab_size, (PIECE_TOKENS + 9,), generator=generator).tolist()
    strategies = [
        Greedy(),
        Sample(num_return_sequences=2),
        Beam(num_beams=3, num_return_sequences=2),
        Greedy(),
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
                adjustments=Adjustments(repetition_penalty=1.3 if number % 4 == 3 else 1.0),
            )
        )
    return requests


def run(runner, config, requests, *, at_once=3, seen=None):
    """Answers by id; requests come in while others run. `seen` gets the last statistics."""
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
    if seen is not None:
        seen.append(engine.stats())
    assert engine.stats().num_cached_tokens == 0
    return answers
