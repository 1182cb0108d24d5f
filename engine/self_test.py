"""The self-test at load: does this very model come out right on a flat, ragged, paged batch?

A list of architectures would be wrong the day one changes, and some run and are silently wrong
(BLOOM's ALiBi), so the torch runner compares every model it loads with the model's own forward
pass: prompts of different lengths, one of them in two chunks, then a decoding step. What short
prompts cannot show (windows, position scaling) is checked against the model's config.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.errors import UnsupportedModel
from engine.ragged_trial import ragged_logits
from engine.runner import Runner

PROMPT_LENGTHS = (4, 26, 11)  # short, so that a start costs little; the longest spans blocks
LONGEST_TRIED = 256  # windows up to this long are crossed by a prompt
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # of the logits' standard deviation
HALF_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Prompts, and the logits that the module's own attention gives after them."""

    prompts: list[list[int]]
    expected: list[Tensor]  # two a prompt: without its last token, and after all of it

    @classmethod
    def of(cls, module: PreTrainedModel, context_length: int) -> "SelfTest":
        """Run the module on its own, while it still has its plain attention."""
        prompts = _prompts(module, context_length)
        with torch.inference_mode():
            expected = [logits for prompt in prompts for logits in _plain_logits(module, prompt)]
        return cls(prompts, expected)

    def num_blocks(self, block_size: int) -> int:
        """Cache blocks that the check needs, the null block included."""
        return 1 + sum(-(-len(prompt) // block_size) for prompt in self.prompts)

    def check(self, module: PreTrainedModel, runner: Runner) -> None:
        """Compare with a runner of the same module, now paged, whose cache is empty.

        Raises:
            UnsupportedModel: the two differ by more than rounding.
        """
        for want, got in zip(self.expected, ragged_logits(runner, self.prompts), strict=True):
            error = (want - got).abs().max().item() / max(want.std().item(), 1e-6)
            if not error <= TOLERANCE.get(module.dtype, HALF_TOLERANCE):
                raise UnsupportedModel(
                    f"{type(module).__name__} gives other logits on a flat batch than by itself "
                    f"(off by {error:.2g} standard deviations), so it would be served wrongly"
                )


def check_windows(
    module: PreTrainedModel, windows: Mapping[int, int | None], context_length: int
) -> None:
    """Make sure the windows that attention is told of are those that the config speaks of.

    Raises:
        UnsupportedModel: a layer attends in a way that the paged attention is not told of.
    """
    config = module.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    for layer, window in windows.items():
        kind = kinds[layer] if kinds else None
        if kind == "chunked_attention":
            raise UnsupportedModel(f"layer {layer} uses chunked attention, which is not supported")
        wanted = _configured_window(config, kind)
        if wanted is not None and wanted >= context_length:
            wanted = None
        told = None if window is not None and window >= context_length else window
        if told != wanted:
            raise UnsupportedModel(
                f"layer {layer} of {type(module).__name__} tells its attention of a window of "
                f"{told} tokens, while its config says {wanted}"
            )


def usable_context(module: PreTrainedModel, context_length: int) -> int:
    """The context in which a token's rotary angles depend on nothing but its own position.

    "dynamic" and "longrope" scaling change all angles once one sequence passes the original
    context, which keys that are cached already cannot follow.
    """
    config = module.config.get_text_config()
    for scaling in _rope_scalings(config):
        if scaling.get("rope_type", scaling.get("type")) in ("dynamic", "longrope"):
            original = scaling.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", config.max_position_embeddings
            )
            return min(context_length, int(original))
    return context_length


def _configured_window(config: Any, kind: str | None) -> int | None:  # noqa: ANN401  any config
    window: int | None = getattr(config, "sliding_window", None)
    if kind is not None:
        return window if kind == "sliding_attention" else None
    return window if getattr(config, "use_sliding_window", True) else None


def _rope_scalings(config: Any) -> list[dict[str, Any]]:  # noqa: ANN401  any config
    scalings = []
    for name in ("rope_parameters", "rope_scaling"):
        value = getattr(config, name, None)
        if isinstance(value, dict):
            scalings += [value, *(part for part in value.values() if isinstance(part, dict))]
    return scalings


def _prompts(module: PreTrainedModel, context_length: int) -> list[list[int]]:
    window = _configured_window(module.config.get_text_config(), None) or 0
    short, long, middle = PROMPT_LENGTHS
    if long <= window < LONGEST_TRIED:
        long = window + window // 2
    vocab_size = module.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(vocab_size, (min(length, context_length),), generator=generator).tolist()
        for length in (short, long, middle)
    ]


def _plain_logits(module: PreTrainedModel, token_ids: list[int]) -> list[Tensor]:
    """Logits after the prompt without its last token, and after all of it."""
    inputs = torch.tensor([token_ids], device=module.device)
    logits: Tensor = module(input_ids=inputs, use_cache=False).logits
    return list(logits[0, -2:].float().cpu())
