"""Whether a model can be split over processes, by transformers' tensor parallel plan for it.

Looks at the folder's config only. What the plan gets wrong is found when shards are compared with
the whole model, which this does not do.
"""

from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from optimize.errors import ModelRefused
from optimize.foreign_errors import translated
from optimize.torch_technique import COMPILE_FILE

HEADS = ("num_attention_heads", "num_key_value_heads")


def check_can_shard(name: str, folder: Path, num_shards: int, *, trust_remote_code: bool) -> None:
    """Check that the model in `folder` can be split so.

    Raises:
        ModelRefused: it cannot; says why and what to do.
    """
    with translated(lambda reason: ModelRefused(f"{name} has an unreadable config: {reason}")):
        whole: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    reason = _obstacle(whole, folder, num_shards)
    if reason is not None:
        raise ModelRefused(
            f"{name} cannot be split over {num_shards} processes: {reason}. Give another "
            "--tensor-parallel-size, or leave it out."
        )


def _obstacle(whole: PreTrainedConfig, folder: Path, num_shards: int) -> str | None:
    config = whole.get_text_config()
    if getattr(whole, "quantization_config", None) is not None:
        return "its weights are quantised"
    if (folder / COMPILE_FILE).is_file():
        return "its layers are to be compiled"
    if not getattr(config, "base_model_tp_plan", None):
        return f"transformers has no tensor parallel plan for {config.model_type} models"
    for heads in HEADS:
        number = getattr(config, heads, None)
        if isinstance(number, int) and number % num_shards:
            return f"{heads} is {number}, which {num_shards} does not divide"
    return None
