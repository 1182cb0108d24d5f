"""Models with code of their own that cannot be built in one of the processes that share them."""

import json
from pathlib import Path

from tests.e2e.conftest import build_tokenizer, save_tiny_model

CODE = """
import os

import torch.distributed
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        if torch.distributed.is_initialized() and os.environ["LOCAL_RANK"] == "{rank}":
            raise OSError("this process has no memory for it")
        super().__init__(config)
"""


def save_model_that_fails_in(rank: str, folder: Path) -> Path:
    """The tiny model as remote code that process `rank` cannot build once all have met."""
    save_tiny_model(folder, build_tokenizer())
    (folder / "modeling_own.py").write_text(CODE.format(rank=rank))
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "OwnConfig", "AutoModelForCausalLM": "OwnForCausalLM"}
    config |= {
        "model_type": "own",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {name: f"modeling_own.{value}" for name, value in classes.items()},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
