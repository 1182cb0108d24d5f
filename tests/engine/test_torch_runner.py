"""The torch runner on tiny random models: what it loads, what it refuses, what it computes."""

from functools import partial

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.config import EngineConfig
from engine.errors import CacheTooSmall, UnsupportedModel
from engine.plan import Plan, PlannedRow
from engine.sequence import Sequence
from engine.torch_runner import TorchRunner
from tests.oracle.architectures import (
    CONTEXT_LENGTH,
    ORIGINAL_CONTEXT_LENGTH,
    SERVED,
    VOCAB_SIZE,
    build_model,
)
from tests.oracle.refused_architectures import REFUSED, SHORTENED

CONFIG = EngineConfig(max_rows=8, max_step_tokens=64, block_size=4, kv_cache_bytes=2**22)
BY_NAME = {each.name: each for each in (*SERVED, *SHORTENED, *REFUSED)}
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
BLOCK_BYTES = 3 * 2 * 2 * 16 * 4 * 4  # layers, keys and values, heads, head size, bytes, tokens


def _model(name: str = "llama") -> PreTrainedModel:
    return build_model(BY_NAME[name])


def _load(name: str = "llama", config: EngineConfig = CONFIG) -> TorchRunner:
    return TorchRunner.load(_model(name), config, context_length=CONTEXT_LENGTH)


def _plain_logits(model: PreTrainedModel, token_ids: tuple[int, ...]) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0]


def _open(runner: TorchRunner, sequence: Sequence) -> None:
    runner.cache.match_prefix(sequence.id, (), "")


def _forward(runner: TorchRunner, *ranges: tuple[Sequence, int, int], wants: bool = True) -> Tensor:
    for sequence, start, end in ranges:
        assert runner.cache.reserve(sequence.id, start, end)
    rows = tuple(PlannedRow(*row, num_logits=int(wants)) for row in ranges)
    return runner.forward(Plan(rows=rows, stepping=())).values


def _sequences(*lengths: int) -> list[Sequence]:
    generator = torch.Generator().manual_seed(1)
    return [
        Sequence(
            id=at,
            prompt_ids=tuple(torch.randint(VOCAB_SIZE, (length,), generator=generator).tolist()),
        )
        for at, length in enumerate(lengths)
    ]


def test_a_loaded_runner_says_what_it_holds_and_leaves_its_cache_empty() -> None:
    runner = _load()
    assert runner.context_length == CONTEXT_LENGTH
    assert runner.vocab_size == VOCAB_SIZE
    assert runner.device_memory_bytes == 0
    assert runner.cache.num_used_tokens == 0
    assert runner.cache.take_copies() == []


def test_a_runner_whose_model_has_a_shorter_context_than_asked_keeps_what_it_is_given() -> None:
    runner = TorchRunner.load(_model(), CONFIG, context_length=50)
    assert runner.context_length == 50


@pytest.mark.parametrize("name", ["llama", "gpt-2"])
def test_a_ragged_batch_in_chunks_gives_the_logits_of_each_prompt_by_itself(name: str) -> None:
    runner, model = _load(name), _model(name)
    short, long = _sequences(7, 31)
    _open(runner, short)
    _open(runner, long)
    _forward(runner, (short, 0, 3), (long, 0, 18), wants=False)
    found = _forward(runner, (short, 3, 7), (long, 18, 30))
    decoded = _forward(runner, (long, 30, 31))
    expected_long = _plain_logits(model, long.prompt_ids)
    assert_close(found[0], _plain_logits(model, short.prompt_ids)[-1])
    assert_close(found[1], expected_long[29])
    assert_close(decoded[0], expected_long[30])


def test_only_rows_that_want_logits_get_them() -> None:
    runner = _load()
    first, second = _sequences(5, 6)
    for sequence in (first, second):
        _open(runner, sequence)
        assert runner.cache.reserve(sequence.id, 0, 5)
    rows = (
        PlannedRow(first, 0, 5, num_logits=1),
        PlannedRow(second, 0, 5, num_logits=0),
    )
    assert runner.forward(Plan(rows=rows, stepping=())).values.shape == (1, VOCAB_SIZE)
    assert _forward(runner, (second, 5, 6), wants=False).shape == (0, VOCAB_SIZE)


def test_a_fork_continues_from_a_copy_of_what_its_parent_computed() -> None:
    runner, model = _load(), _model()
    (parent,) = _sequences(6)
    _open(runner, parent)
    _forward(runner, (parent, 0, 6))
    runner.cache.fork(parent.id, 9)
    child = Sequence(id=9, prompt_ids=(*parent.prompt_ids, 11))
    parent.generated_ids.append(12)
    found = _forward(runner, (parent, 6, 7), (child, 6, 7))
    assert_close(found[0], _plain_logits(model, tuple(parent.token_ids))[-1])
    assert_close(found[1], _plain_logits(model, child.prompt_ids)[-1])


def test_a_decoding_row_gets_the_same_logits_alone_and_in_company() -> None:
    sequences = _sequences(40, 9, 17, 33)
    alone = _load()
    _open(alone, sequences[0])
    _forward(alone, (sequences[0], 0, 39))
    expected = _forward(alone, (sequences[0], 39, 40))[0]
    together = _load()
    for sequence in sequences:
        _open(together, sequence)
        _forward(together, (sequence, 0, sequence.num_tokens - 1))
    last = [(each, each.num_tokens - 1, each.num_tokens) for each in sequences]
    found = _forward(together, *last)[0]
    assert_close(found, expected)


def test_a_module_stays_paged_and_says_so_when_called_by_itself() -> None:
    model = _model()
    TorchRunner.load(model, CONFIG, context_length=CONTEXT_LENGTH)
    with pytest.raises(UnsupportedModel):
        _plain_logits(model, (1, 2, 3))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nemotron", "keyword arguments"),
        ("llama-4-chunks", "chunked attention"),
        ("gpt-oss-sinks", "sinks"),
        ("bloom-alibi", "attention interface"),
        ("mamba-recurrent", "attention"),
        ("t5-encoder-decoder", "decoder-only"),
    ],
)
def test_a_model_that_cannot_run_this_way_is_refused_with_the_reason(
    name: str, reason: str
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        _load(name)


@pytest.mark.parametrize("name", ["llama-dynamic-rope", "phi-3-long-rope"])
def test_positions_that_stretch_cap_the_context_at_the_original(name: str) -> None:
    assert _load(name).context_length == ORIGINAL_CONTEXT_LENGTH


def test_a_cache_that_does_not_hold_a_block_a_row_is_refused() -> None:
    with pytest.raises(CacheTooSmall, match="kv_cache_bytes"):
        _load(config=EngineConfig(max_rows=8, block_size=4, kv_cache_bytes=8 * BLOCK_BYTES))


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(max_rows=1, block_size=CONTEXT_LENGTH),
        EngineConfig(max_rows=2, block_size=CONTEXT_LENGTH),
        EngineConfig(max_rows=1, block_size=4, kv_cache_bytes=12 * BLOCK_BYTES),
        EngineConfig(max_rows=4, block_size=4, kv_cache_bytes=5 * BLOCK_BYTES),
    ],
    ids=["one long row", "two long rows", "a small cache", "the smallest cache allowed"],
)
def test_a_model_loads_into_the_smallest_cache_that_its_settings_allow(
    config: EngineConfig,
) -> None:
    assert _load(config=config).cache.max_tokens >= config.max_rows * config.block_size
