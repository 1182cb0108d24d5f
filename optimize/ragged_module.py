"""A model as one function of tensors: what `torch_program` traces and exports.

Rows of different lengths, each with its past, in one call; no state, no Python object in or out, so
a program in C++ needs nothing but four tensors. With R rows, T new tokens each, P positions of past
(rows with less are padded at the end), L layers, H key heads and D values a head:

* in: token ids [R, T] int64, past lengths [R] int64, past keys and values [L, R, H, P, D];
* out: logits [R, vocab] after each row's last token, its new keys and values [L, R, H, T, D].
"""

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

Outputs = tuple[Tensor, Tensor, Tensor]


class _PastCache(Cache):
    """Gives a layer its past and takes what it adds. Lives for one call."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        # Without the base class's layers, which would copy the past.
        self.layers = []
        self._past = keys, values
        self.new_keys: list[Tensor] = []
        self.new_values: list[Tensor] = []

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *_: object,
        **__: object,
    ) -> tuple[Tensor, Tensor]:
        self.new_keys.append(key_states)
        self.new_values.append(value_states)
        keys, values = self._past
        return (
            torch.cat([keys[layer_idx], key_states], 2),
            torch.cat([values[layer_idx], value_states], 2),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002  all layers have the same
        return self._past[0].shape[3]

    def __len__(self) -> int:
        return self._past[0].shape[0]


class RaggedModule(nn.Module):
    """A causal LM of transformers with its past as tensors."""

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, token_ids: Tensor, past_lengths: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> Outputs:
        """Logits, new keys and new values, shaped as above."""
        cache = _PastCache(past_keys, past_values)
        steps = torch.arange(token_ids.shape[1], device=token_ids.device)
        output = self.module(
            input_ids=token_ids,
            position_ids=past_lengths[:, None] + steps,
            attention_mask=_mask(past_keys, past_lengths, steps),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1], torch.stack(cache.new_keys), torch.stack(cache.new_values)


def _mask(past_keys: Tensor, past_lengths: Tensor, steps: Tensor) -> Tensor:
    """What is added to the scores [R, 1, T, P + T]: nothing where a token may look."""
    num_rows, num_steps = past_lengths.shape[0], steps.shape[0]
    num_past = past_keys.shape[3]
    past = torch.arange(num_past, device=steps.device) < past_lengths[:, None]
    seen = torch.cat(
        [
            past[:, None, None, :].expand(num_rows, 1, num_steps, num_past),
            (steps <= steps[:, None]).expand(num_rows, 1, num_steps, num_steps),
        ],
        dim=-1,
    )
    nothing = torch.zeros(seen.shape, dtype=past_keys.dtype, device=past_keys.device)
    return nothing.masked_fill(~seen, torch.finfo(past_keys.dtype).min)
