"""How many cache blocks: what the settings or the memory allow, never more than useful."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from engine import cache_size
from engine.cache_size import CPU_MOST_BYTES, budget_bytes, num_cache_blocks
from engine.config import EngineConfig
from engine.errors import CacheTooLarge, CacheTooSmall
from engine.kv_store import LayerShape
from machine import memory
from machine.control_groups import own_groups
from tests.machine.written_groups import WrittenGroups

SHAPES = (LayerShape(2, 8, 4), LayerShape(1, 8, 8))  # 24 and 16 numbers a token
BLOCK_BYTES = 40 * 4 * 16  # in float32, 16 tokens a block
CPU = torch.device("cpu")


def _num_blocks(
    kv_cache_bytes: int | None,
    *,
    max_rows: int = 4,
    context_length: int = 1000,
    dtype: torch.dtype = torch.float32,
) -> int:
    config = EngineConfig(max_rows=max_rows, block_size=16, kv_cache_bytes=kv_cache_bytes)
    return num_cache_blocks(SHAPES, config, dtype=dtype, device=CPU, context_length=context_length)


def test_keys_and_values_of_all_layers_count() -> None:
    assert _num_blocks(50 * BLOCK_BYTES) == 50
    assert _num_blocks(50 * BLOCK_BYTES - 1) == 49


def test_half_the_bytes_a_number_gives_twice_the_blocks() -> None:
    assert _num_blocks(50 * BLOCK_BYTES, dtype=torch.bfloat16) == 100


def test_no_more_blocks_than_a_full_batch_of_full_contexts_can_use() -> None:
    assert _num_blocks(10**12, max_rows=4, context_length=33) == 4 * 3 + 1


def test_a_budget_that_does_not_hold_a_block_a_row_is_refused_with_the_numbers() -> None:
    with pytest.raises(CacheTooSmall) as refused:
        _num_blocks(4 * BLOCK_BYTES, max_rows=4)
    for number in (4 * BLOCK_BYTES, BLOCK_BYTES, 5):
        assert str(number) in str(refused.value)
    assert "kv_cache_bytes" in str(refused.value)
    assert _num_blocks(5 * BLOCK_BYTES, max_rows=4) == 5


@pytest.mark.parametrize(
    ("available", "num_blocks"), [(80 * BLOCK_BYTES, 20), (8 * CPU_MOST_BYTES, 1000)]
)
def test_without_a_setting_a_share_of_the_free_memory_is_taken_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch, available: int, num_blocks: int
) -> None:
    monkeypatch.setattr(cache_size, "CPU_MOST_BYTES", 1000 * BLOCK_BYTES)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    assert _num_blocks(None, max_rows=1, context_length=10**6) == num_blocks


def test_without_a_setting_a_container_shares_out_what_its_limit_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    groups = WrittenGroups(tmp_path)
    groups.unified("/pod/container")
    files = {"memory.max": "3000000", "memory.current": "1000000"}
    groups.write("unified", "/pod", files)
    monkeypatch.setattr(memory, "own_groups", lambda name, _: own_groups(name, groups.process))
    assert budget_bytes(EngineConfig()) == 500_000
    assert budget_bytes(EngineConfig(kv_cache_share=0.5)) == 250_000
    assert budget_bytes(EngineConfig(kv_cache_bytes=7 * 2**20)) == 7 * 2**20


def test_a_budget_beyond_the_free_memory_is_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=BLOCK_BYTES))
    with pytest.raises(CacheTooLarge) as refused:
        _num_blocks(50 * BLOCK_BYTES)
    for number in (50 * BLOCK_BYTES, BLOCK_BYTES):
        assert str(number) in str(refused.value)
