"""The self-test at load: it passes what is right and tells what is wrong, rather than crash."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from decoding.logits import Logits
from engine.config import EngineConfig
from engine.errors import UnsupportedModel
from engine.paged_cache import PagedCache
from engine.plan import Plan
from engine.self_test import SelfTest, check_windows, usable_context
from engine.torch_runner import TorchRunner
from tests.oracle.architectures import CONTEXT_LENGTH, SERVED, WINDOW, build_model

CONFIG = EngineConfig(max_rows=8, max_step_tokens=64, block_size=4, kv_cache_bytes=2**22)
FEATURES = {each.name: each for each in SERVED}

Change = Callable[[Tensor], Tensor]


class Altered:
    """A runner whose logits are changed in some of its forwards."""

    def __init__(self, runner: TorchRunner, change: Change, at_forwards: tuple[int, ...]) -> None:
        self.cache = runner.cache
        self.context_length = runner.context_length
        self.vocab_size = runner.vocab_size
        self.device_memory_bytes = 0
        self.plans: list[Plan] = []
        self._runner = runner
        self._change = change
        self._at_forwards = at_forwards

    def forward(self, plan: Plan) -> Logits:
        """The runner's logits, changed or not."""
        self.plans.append(plan)
        logits = self._runner.forward(plan).values
        changed = len(self.plans) - 1 in self._at_forwards
        return Logits(self._change(logits) if changed else logits)


def _check(change: Change, *at_forwards: int, name: str = "llama") -> Altered:
    """Run the self-test on a model that passed it once, with altered logits."""
    model = build_model(FEATURES[name])
    self_test = SelfTest.of(model, CONTEXT_LENGTH)
    runner = TorchRunner.load(model, CONFIG, context_length=CONTEXT_LENGTH)
    altered = Altered(runner, change, at_forwards)
    self_test.check(model, altered)
    return altered


def _set_one_row(logits: Tensor, value: float) -> Tensor:
    changed = logits.clone()
    changed[1] = value
    return changed


def _windowed(window: int | None, **options: object) -> PreTrainedModel:
    text = SimpleNamespace(sliding_window=window, **options)
    return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))


@pytest.mark.parametrize("name", ["llama", "mistral-window"])
def test_a_right_runner_passes_with_prompts_in_chunks_that_cross_a_window(name: str) -> None:
    plans = _check(torch.clone, 0, 1, 2, name=name).plans
    assert all(len(plan.rows) > 1 for plan in plans)
    assert any(row.start > 0 and row.end - row.start > 1 for plan in plans for row in plan.rows)
    assert any(row.end - row.start == 1 for row in plans[-1].rows)
    assert max(row.end for row in plans[-1].rows) > 2 * WINDOW


@pytest.mark.parametrize("at_forward", [1, 2], ids=["second chunk", "decoding step"])
@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits * 1.01,
        lambda logits: logits.roll(1, dims=0),
        lambda logits: logits.roll(1, dims=1),
        lambda logits: _set_one_row(logits, 0.0),
        lambda logits: _set_one_row(logits, torch.nan),
        lambda logits: _set_one_row(logits, torch.inf),
    ],
    ids=["scaled", "rows mixed up", "tokens mixed up", "one row wrong", "NaN", "infinite"],
)
def test_wrong_logits_of_any_kind_and_step_are_refused(change: Change, at_forward: int) -> None:
    with pytest.raises(UnsupportedModel, match="other logits on a flat batch"):
        _check(change, at_forward)


@pytest.mark.parametrize("block_size", [1, 16, CONTEXT_LENGTH])
def test_the_blocks_it_asks_for_hold_its_prompts(block_size: int) -> None:
    self_test = SelfTest.of(build_model(FEATURES["llama"]), CONTEXT_LENGTH)
    cache = PagedCache(num_blocks=self_test.num_blocks(block_size), block_size=block_size)
    for at, prompt in enumerate(self_test.prompts):
        cache.match_prefix(at, (), "")
        assert cache.reserve(at, 0, len(prompt))
    assert not cache.can_reserve(1), "and no more"


def test_a_window_that_attention_is_told_of_must_be_the_configs() -> None:
    check_windows(_windowed(16), {0: 16, 1: 16}, 100)
    with pytest.raises(UnsupportedModel, match=r"layer 1 .* None tokens.*says 16"):
        check_windows(_windowed(16), {0: 16, 1: None}, 100)
    with pytest.raises(UnsupportedModel, match=r"layer 0 .* 8 tokens.*says 16"):
        check_windows(_windowed(16), {0: 8}, 100)
    with pytest.raises(UnsupportedModel, match=r"8 tokens.*says None"):
        check_windows(_windowed(None), {0: 8}, 100)


def test_layers_of_different_kinds_have_different_windows() -> None:
    kinds = ["sliding_attention", "full_attention"]
    check_windows(_windowed(16, layer_types=kinds), {0: 16, 1: None}, 100)
    with pytest.raises(UnsupportedModel, match=r"layer 1"):
        check_windows(_windowed(16, layer_types=kinds), {0: 16, 1: 16}, 100)
    chunked = _windowed(None, layer_types=["chunked_attention"])
    with pytest.raises(UnsupportedModel, match=r"layer 0 uses chunked attention"):
        check_windows(chunked, {0: None}, 100)


def test_a_window_as_long_as_the_context_is_no_window() -> None:
    check_windows(_windowed(100), {0: None}, 100)
    check_windows(_windowed(None), {0: 100}, 100)


def test_a_window_that_is_switched_off_is_no_window() -> None:
    check_windows(_windowed(16, use_sliding_window=False), {0: None}, 100)


@pytest.mark.parametrize(
    ("rope", "usable"),
    [
        ({"rope_type": "default"}, 100),
        ({"rope_type": "linear", "factor": 2.0}, 100),
        ({"rope_type": "dynamic", "factor": 2.0}, 64),
        (
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 32,
            },
            32,
        ),
    ],
    ids=["default", "linear", "dynamic", "longrope"],
)
def test_the_context_ends_where_angles_would_start_to_depend_on_neighbours(
    rope: dict[str, object], usable: int
) -> None:
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 10000.0, **rope},
    )
    assert usable_context(SimpleNamespace(config=config), 100) == usable


def test_the_context_is_never_made_longer() -> None:
    rope = {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}
    config = LlamaConfig(max_position_embeddings=64, rope_parameters=rope)
    assert usable_context(SimpleNamespace(config=config), 10) == 10
