"""Looks at what goes into the repeated layers of a transformers module, in steps that want it.

For the torch runner. The input of a layer is what `transformers` calls the hidden state of its
number: 0 is the embedding. The head is the module's output embedding alone, as `transformers` has
it for DoLa: no final normalisation, no capped or scaled logits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from decoding.base import ModelDepth
from decoding.logits import EarlyExits, Logits
from engine.early_exits import KeptRows


class InnerLayers:
    """A module's layers in order, and its head. Hooks are there for one step at a time."""

    def __init__(self, layers: Sequence[nn.Module], head: nn.Module, depth: ModelDepth) -> None:
        self._layers = layers
        self._head = head
        self.depth = depth

    @classmethod
    def of(cls, module: PreTrainedModel) -> "InnerLayers | None":
        """None where the module does not keep its layers in one list, or its head does not fit."""
        config = module.config.get_text_config()
        lists = (
            each
            for each in module.base_model.modules()
            if isinstance(each, nn.ModuleList) and len(each) == config.num_hidden_layers
        )
        layers = next(lists, None)
        head: nn.Module | None = module.get_output_embeddings()  # type: ignore[no-untyped-call]
        if layers is None or head is None or not isinstance(head.weight, Tensor):
            return None
        depth = ModelDepth(
            num_layers=len(layers), has_tied_embeddings=bool(module.config.tie_word_embeddings)
        )
        inner = cls(list(layers), head, depth)
        return inner if inner._can_exit(module, head.weight.shape[-1]) else None

    def _can_exit(self, module: PreTrainedModel, width: int) -> bool:
        """Run one token, to see that every layer is given what the head takes, so wide."""
        one = torch.ones((1, 1), dtype=torch.int64, device=module.device)
        every = range(self.depth.num_layers)
        with torch.inference_mode(), self.watched(every, torch.zeros_like(one[0])) as states:
            module(input_ids=one, use_cache=False)
        return len(states) == len(every) and all(s.shape == (1, width) for s in states.values())

    @contextmanager
    def watched(self, layers: Sequence[int], at: Tensor) -> Iterator[Mapping[int, Tensor]]:
        """What goes into some layers at places [kept] of a flat batch, each [kept, width].

        Filled while the module runs inside.
        """
        states: dict[int, Tensor] = {}
        hooks = [
            self._layers[layer].register_forward_pre_hook(
                partial(_keep, states, layer, at), with_kwargs=True
            )
            for layer in layers
        ]
        try:
            yield states
        finally:
            for hook in hooks:
                hook.remove()

    def exits(self, states: Mapping[int, Tensor], kept: KeptRows) -> EarlyExits:
        """What is said after some layers, given what went into the next."""
        return EarlyExits(states=states, head=self.say, places=kept.places)

    def say(self, states: Tensor) -> Logits:
        """What the head makes of states [rows, width]."""
        with torch.inference_mode():
            return Logits(self._head(states))


def _keep(
    states: dict[int, Tensor],
    layer: int,
    at: Tensor,
    _module: nn.Module,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> None:
    given = args[0] if args else kwargs.get("hidden_states")
    if isinstance(given, Tensor) and given.ndim == 3:
        states[layer] = given[0, at]
