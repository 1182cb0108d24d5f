"""Tiny models that the torch runner must not serve as they are: refused, or only up to a length.

Most of them load and run on a flat batch without an error and are silently wrong: position biases
nobody passes on, sinks, chunks, recurrent state, a cache of their own. Data only.
"""

from collections.abc import Mapping

from tests.oracle.architectures import (
    ALTERNATING,
    CONTEXT_LENGTH,
    GPT_2_SIZES,
    ORIGINAL_CONTEXT_LENGTH,
    VOCAB_SIZE,
    WINDOW,
    Architecture,
    grouped,
)

SHORTENED: tuple[Architecture, ...] = (
    Architecture(
        name="llama-dynamic-rope",
        config_class="LlamaConfig",
        options=grouped(
            max_position_embeddings=ORIGINAL_CONTEXT_LENGTH,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0},
        ),
    ),
    Architecture(
        name="phi-3-long-rope",
        config_class="Phi3Config",
        options={
            "original_max_position_embeddings": ORIGINAL_CONTEXT_LENGTH,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 6,
                "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
                "original_max_position_embeddings": ORIGINAL_CONTEXT_LENGTH,
            },
        },
    ),
)
"""Served within `ORIGINAL_CONTEXT_LENGTH`: beyond it, the longest sequence of a batch would change
the rotary angles of all the others."""

_FALCON: Mapping[str, object] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}

REFUSED: tuple[Architecture, ...] = (
    Architecture(
        name="bloom-alibi",
        config_class="BloomConfig",
        is_common=False,
        options={"vocab_size": VOCAB_SIZE, "hidden_size": 48, "n_layer": 3, "n_head": 4},
    ),
    Architecture(name="falcon", config_class="FalconConfig", is_common=False, options=_FALCON),
    Architecture(
        name="falcon-alibi",
        config_class="FalconConfig",
        is_common=False,
        options={**_FALCON, "alibi": True},
    ),
    Architecture(
        name="mpt-alibi",
        config_class="MptConfig",
        is_common=False,
        options={
            "vocab_size": VOCAB_SIZE,
            "d_model": 48,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": CONTEXT_LENGTH,
        },
    ),
    Architecture(
        name="stablelm", config_class="StableLmConfig", options={"partial_rotary_factor": 0.5}
    ),
    Architecture(name="nemotron", config_class="NemotronConfig", options=grouped()),
    Architecture(
        name="gpt-j",  # a prompt comes out right, what follows does not
        config_class="GPTJConfig",
        is_common=False,
        options={**GPT_2_SIZES, "rotary_dim": 8},
    ),
    Architecture(
        name="gpt-neo-local",  # likewise
        config_class="GPTNeoConfig",
        is_common=False,
        options={
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 48,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "max_position_embeddings": CONTEXT_LENGTH,
        },
    ),
    Architecture(
        name="llama-4-chunks",
        config_class="Llama4TextConfig",
        options=grouped(attention_chunk_size=WINDOW, intermediate_size_mlp=80, num_local_experts=2),
    ),
    Architecture(
        name="gpt-oss-sinks",
        config_class="GptOssConfig",
        options=grouped(
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=WINDOW,
            layer_types=ALTERNATING,
        ),
    ),
    Architecture(
        name="lfm-2-convolutions",
        config_class="Lfm2Config",
        options={"num_key_value_heads": 2, "layer_types": ["conv", "full_attention", "conv"]},
    ),
    Architecture(
        name="qwen-3-next-recurrent",
        config_class="Qwen3NextConfig",
        options=grouped(
            num_experts=0,
            linear_num_value_heads=4,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
        ),
    ),
    Architecture(
        name="mamba-recurrent",
        config_class="MambaConfig",
        is_common=False,
        options={
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "state_size": 4,
        },
    ),
    Architecture(
        name="t5-encoder-decoder",
        config_class="T5Config",
        is_common=False,
        model_class="AutoModelForSeq2SeqLM",
        options={
            "vocab_size": VOCAB_SIZE,
            "d_model": 48,
            "d_ff": 80,
            "num_layers": 2,
            "num_heads": 4,
            "d_kv": 12,
            "decoder_start_token_id": 0,
        },
    ),
    Architecture(name="bert-not-causal", config_class="BertConfig"),
)
"""Architectures that would come out wrong and must be refused at load."""
