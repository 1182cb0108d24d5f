"""How a split model is checked while it is loaded: with the whole one where memory allows."""

import logging
from pathlib import Path

import pytest

from app.shards import loading
from decoding.beam import Beam
from decoding.greedy import Greedy
from engine.config import EngineConfig
from tests.oracle.engine_run import run_staggered
from tests.oracle.exam import served
from tests.oracle.serving import build_engine
from tests.oracle.sharded_serving import save_architecture, sharded_engine
from tests.oracle.workload import build_requests

CONFIG = EngineConfig(max_rows=8, max_step_tokens=24, block_size=4)
WARNING = "does not fit into this machine's memory as a whole"

pytestmark = pytest.mark.slow


@pytest.fixture(params=served("llama"))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_architecture(request.param, tmp_path)


def test_without_memory_for_the_whole_a_warning_says_so_and_the_answers_are_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    num_weight_bytes = (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(loading, "available_memory_bytes", lambda: num_weight_bytes)
    requests = build_requests([Greedy(), Beam(num_beams=2)], frozenset(), max_new_tokens=8)
    with sharded_engine(folder, CONFIG) as engine:
        run = run_staggered(engine, requests)
    warnings = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert [each for each in warnings if WARNING in each]
    whole = run_staggered(build_engine(*served("llama"), CONFIG), requests)
    for one in requests:
        assert run.tokens(one.request_id) == whole.tokens(one.request_id)


def test_half_precision_is_split_and_agrees_with_the_whole(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is compared is the self-test's; later tokens may differ by rounding."""
    requests = build_requests([Greedy(), Beam(num_beams=2)], frozenset(), max_new_tokens=8)
    with sharded_engine(folder, CONFIG, dtype="bfloat16") as engine:
        run = run_staggered(engine, requests)
    assert not run.failed
    assert WARNING not in caplog.text
    assert {len(run.tokens(one.request_id)[0]) for one in requests} == {8}
