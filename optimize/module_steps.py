"""A module of transformers, step by step, for measuring it. Opened by `opening`.

With transformers' own cache and attention: what another user of the variant would run.
"""

import inspect
from pathlib import Path

import torch
from transformers import DynamicCache, PreTrainedModel

from optimize.description import context_length
from optimize.loading import load_model, load_tokenizer
from optimize.placement import Placement
from optimize.steps import Floats, TokenIds
from optimize.torch_compile import UncompiledCache, compile_layers
from optimize.torch_technique import COMPILE_FILE


def open_module_steps(
    folder: Path, placement: Placement, *, num_threads: int, trust_remote_code: bool
) -> "ModuleSteps":
    """The model in `folder`, its layers compiled where the folder says so.

    Raises:
        ModelError: it cannot be loaded.
    """
    torch.set_num_threads(num_threads)
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    module = load_model(folder, placement, trust_remote_code=trust_remote_code)
    is_compiled = (folder / COMPILE_FILE).is_file()
    if is_compiled:
        compile_layers(module)
    length = context_length(module.config, tokenizer, folder.name)
    return ModuleSteps(module, context_length=length, is_compiled=is_compiled)


class ModuleSteps:
    """A module in eval mode, with rows in a cache of transformers."""

    def __init__(
        self, module: PreTrainedModel, *, context_length: int, is_compiled: bool = False
    ) -> None:
        self._module = module
        self._new_cache = UncompiledCache if is_compiled else DynamicCache
        self._context_length = context_length
        can_select = "logits_to_keep" in inspect.signature(module.forward).parameters
        self._options = {"logits_to_keep": 1} if can_select else {}
        self._cache = self._new_cache(config=module.config)

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return int(self._module.config.get_text_config(decoder=True).vocab_size)

    @property
    def context_length(self) -> int:
        """The most tokens of a row."""
        return self._context_length

    def start(self, num_rows: int, max_length: int) -> None:  # noqa: ARG002  its cache grows
        """Forget all rows."""
        self._cache = self._new_cache(config=self._module.config)

    def read(self, token_ids: TokenIds) -> Floats:
        """Logits [rows, vocab] after `token_ids` [rows, tokens], appended to the rows."""
        inputs = torch.from_numpy(token_ids).to(self._module.device)
        with torch.inference_mode():
            output = self._module(
                input_ids=inputs, past_key_values=self._cache, use_cache=True, **self._options
            )
        logits: Floats = output.logits[:, -1].float().cpu().numpy()
        return logits
