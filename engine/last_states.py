"""The hidden states that a transformers module's inner model puts out, in steps that want them.

For the torch runner: they are what logits are computed from. `hidden_states.py` compares them.
"""

from typing import Self

from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput


class LastStates:
    """Keeps what a module's inner model puts out while one step is computed, if that is wanted."""

    def __init__(self, module: PreTrainedModel, *, is_wanted: bool) -> None:
        self._inner = module.base_model if is_wanted else None
        self._states: Tensor | None = None

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._hook = self._inner.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._inner is not None:
            self._hook.remove()

    def of(self, at: Tensor) -> Tensor | None:
        """The states [wanted, width] at places of the flat batch; None if they are not wanted."""
        return None if self._states is None else self._states[0, at]

    def _keep(self, _module: object, _inputs: object, output: ModelOutput) -> None:
        self._states = output[0]  # the first of a model's outputs is its last hidden state
