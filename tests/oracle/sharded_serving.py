"""Engines over tiny models that two processes compute, and the shards' own program for them.

The follower's side is what the service runs (`app/shards`); only the models are the suite's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from app.loading import load_model
from app.settings import load_settings
from engine.config import EngineConfig
from engine.engine import Engine
from tests.oracle.architectures import VOCAB_SIZE, Architecture, build_model
from tests.oracle.serving import ROOMY_CACHE_BYTES

NUM_PROCESSES = 2


@contextmanager
def sharded_engine(
    folder: Path,
    config: EngineConfig,
    *,
    num_processes: int = NUM_PROCESSES,
    dtype: str | None = None,
) -> Iterator[Engine]:
    """An engine over the model in `folder`, loaded as the service loads it; ended afterwards."""
    settings = load_settings(
        {
            "model": str(folder),
            "runtime": "torch",
            "device": "cpu",
            "dtype": dtype,
            "tensor_parallel_size": num_processes,
            "threads": num_processes,
            "max_rows": config.max_rows,
            "max_step_tokens": config.max_step_tokens,
            "block_size": config.block_size,
        }
    )
    # Without validation, whose least is far more than these models need.
    num_bytes = config.kv_cache_bytes or ROOMY_CACHE_BYTES
    settings = settings.model_copy(update={"kv_cache_bytes": num_bytes})
    loaded = load_model(settings, lambda _stage, _part: None)
    try:
        yield loaded.engine
    finally:
        loaded.close()


def save_architecture(architecture: Architecture, folder: Path) -> Path:
    """The suite's model of that name as a folder, with a tokenizer of as many words."""
    build_model(architecture).save_pretrained(folder)
    words = {f"w{at}": at for at in range(VOCAB_SIZE)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder
