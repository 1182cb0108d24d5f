"""Loads a transformers folder onto its device. Called by `prepare` with a checked folder.

Only safetensors weights, nothing from the network. Attention is the plain implementation, the one
every architecture has and defines its results by; the engine puts its own in its place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from optimize.errors import LoadingFailed
from optimize.foreign_errors import translated
from optimize.placement import Placement
from optimize.quiet_bars import quiet_bars

LoadingInfo = Mapping[str, Sequence[str]]
"""What transformers says of a loaded model; of its `missing_keys` the weights are random."""


def load_model(
    folder: Path, placement: Placement, *, trust_remote_code: bool, num_shards: int = 1
) -> PreTrainedModel:
    """The model in `folder`, in eval mode on its device.

    With several shards it is this process's part: as many processes of one group call it, and each
    reads what its part needs. `sharding.check_can_shard` knows which models this is for.

    Raises:
        LoadingFailed: transformers cannot build it, or some of its weights are not in the folder.
    """
    with translated(lambda reason: _failed(folder, "the model", reason)), quiet_bars():
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=placement.torch_dtype,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({} if num_shards == 1 else {"distributed_config": {"tp_size": num_shards}}),
        )
        module, info = cast("tuple[PreTrainedModel, LoadingInfo]", loaded)
        if num_shards == 1:  # shards are on their devices already
            module.to(placement.device)  # type: ignore[arg-type]  # typed for another overload
    missing = sorted(info["missing_keys"])
    if missing:
        raise LoadingFailed(
            f"{folder} lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}), "
            "which would be random. It may hold a base model without its language-model head; "
            "give the causal language model."
        )
    module.eval()  # type: ignore[no-untyped-call]
    return module


def load_tokenizer(folder: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, with the chat template it was saved with.

    Raises:
        LoadingFailed: transformers cannot build it.
    """
    with translated(lambda reason: _failed(folder, "the tokenizer", reason)):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    return tokenizer


def _failed(folder: Path, what: str, reason: str) -> LoadingFailed:
    return LoadingFailed(
        f"transformers could not load {what} in {folder} ({reason}). "
        "Download it again, or install what the message asks for."
    )
