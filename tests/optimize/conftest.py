"""Tiny random models in every form a model can come in, made here: nothing is downloaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from optimize.spec import ModelSpec

BOS, EOS = "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
)
VOCAB_SIZE = 300
CONTEXT_LENGTH = 128
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most VOCAB_SIZE tokens with a chat template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<|endoftext|>", BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the cat sat on the mat and the other cat sat too"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, unk_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def module(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A random Llama with grouped-query attention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def model_folder(
    module: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    """The tiny model as a transformers folder, a fresh one for each test."""
    folder = tmp_path / "tiny-llama"
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def edit_config(model_folder: Path) -> Callable[..., None]:
    """Change keys of the folder's config.json; None removes one."""

    def edit(file: str = "config.json", **changes: object) -> None:
        path = model_folder / file
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return edit


@pytest.fixture
def cache_folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def spec_of(cache_folder: Path) -> Callable[..., ModelSpec]:
    """A spec for a source, on the CPU, with its cache in the test's own folder."""

    def make(source: Path | str, **options: Any) -> ModelSpec:
        options = {"device": "cpu", "cache_folder": cache_folder} | options
        return ModelSpec(source=str(source), **options)

    return make


@pytest.fixture(scope="session")
def write_gguf(
    module: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., dict[str, np.ndarray]]:
    """Write the tiny model as a GGUF file; gives the floats each parameter stands for."""

    def write(
        path: Path, settings: dict[str, Any] | None = None, architecture: str = "llama"
    ) -> dict[str, np.ndarray]:
        writer = gguf.GGUFWriter(path, architecture)
        _add_settings(writer, module.config)
        for key, value in (settings or {}).items():
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
        _add_tokenizer(writer, tokenizer)
        values = _add_tensors(writer, module)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return values

    return write


@pytest.fixture(scope="session")
def gguf_values(
    write_gguf: Callable[..., dict[str, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("gguf") / "tiny-llama.Q8_0.gguf"
    return path, write_gguf(path)


@pytest.fixture(scope="session")
def gguf_file(gguf_values: tuple[Path, dict[str, np.ndarray]]) -> Path:
    """The tiny model as a GGUF file. Do not change it."""
    return gguf_values[0]


def _add_settings(writer: gguf.GGUFWriter, config: LlamaConfig) -> None:
    writer.add_name("Tiny Llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token.startswith("<|") else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, module: LlamaForCausalLM) -> dict[str, np.ndarray]:
    values = {}
    heads = {
        "attn_q": module.config.num_attention_heads,
        "attn_k": module.config.num_key_value_heads,
    }
    for name, parameter in module.named_parameters():
        gguf_name, array = _gguf_name(name), parameter.detach().numpy()
        if array.ndim == 1:
            writer.add_tensor(gguf_name, array)
            values[name] = array
            continue
        blocks = quantize(array, gguf.GGMLQuantizationType.Q8_0)
        values[name] = dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
        num_heads = next((n for part, n in heads.items() if part in gguf_name), None)
        if num_heads is not None:
            blocks = _interleave(blocks, num_heads)
        writer.add_tensor(gguf_name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    return values


def _gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def _interleave(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """The order in which GGUF keeps the rows of rotary projections."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)
