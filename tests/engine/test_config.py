"""Bounds of the engine that make no sense are refused by name."""

from dataclasses import FrozenInstanceError

import pytest

from engine.config import EngineConfig


@pytest.mark.parametrize("name", ["max_rows", "max_waiting_requests", "block_size"])
def test_a_bound_below_one_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        EngineConfig(**{name: 0})


def test_a_step_holds_a_token_of_every_row() -> None:
    with pytest.raises(ValueError, match=r"max_step_tokens \(7\).*max_rows \(8\)"):
        EngineConfig(max_rows=8, max_step_tokens=7)
    assert EngineConfig(max_rows=8, max_step_tokens=8).max_step_tokens == 8


def test_nobody_writes_into_a_config() -> None:
    with pytest.raises(FrozenInstanceError):
        EngineConfig().max_rows = 2
