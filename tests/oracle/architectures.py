"""Tiny random causal LMs of many architectures: what the oracle suite runs the engine on.

Each entry is one configuration of `transformers`, shrunk to a few thousand weights but with the
features that make the architecture special (grouped heads, windows, soft-caps, experts, ...)
set so that they matter for prompts of a few dozen tokens. `build_model` seeds the weights, so
a model is the same in every process. No engine in this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

VOCAB_SIZE = 257  # odd on purpose: nothing may depend on round sizes
CONTEXT_LENGTH = 128  # tokens; longer than any prompt plus continuation of the suite
ORIGINAL_CONTEXT_LENGTH = 16  # of models that stretch their positions beyond it
WINDOW = 7  # tokens a sliding layer sees; shorter than most prompts, no multiple of a block
NUM_SPECIAL_TOKENS = 2  # padding and beginning: ids 0 and 1
LOGIT_SPREAD = 2.0  # standard deviation of a projection's output: far from flat, no near ties

# Names that most configurations share; an architecture with other names gives its own.
_COMMON: Mapping[str, object] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
}
_SPECIAL_TOKENS: Mapping[str, object] = {
    "bos_token_id": 1,
    "eos_token_id": None,  # requests bring their own end tokens
    "pad_token_id": 0,
}
GPT_2_SIZES: Mapping[str, object] = {
    "vocab_size": VOCAB_SIZE,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": CONTEXT_LENGTH,
}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A configuration class of `transformers` by name, and what to give it."""

    name: str
    config_class: str
    options: Mapping[str, object] = field(default_factory=dict)
    is_common: bool = True  # takes the common size names
    model_class: str = "AutoModelForCausalLM"

    def __str__(self) -> str:
        return self.name


def build_config(architecture: Architecture) -> PreTrainedConfig:
    """The configuration of a tiny model."""
    options = dict(_SPECIAL_TOKENS)
    if architecture.is_common:
        options |= _COMMON
    return getattr(transformers, architecture.config_class)(**(options | architecture.options))


def build_model(architecture: Architecture, *, seed: int = 0) -> PreTrainedModel:
    """A model in float32, in eval mode, whose weights depend on `seed` alone.

    Every matrix is drawn so that its outputs spread by about `LOGIT_SPREAD`, and every vector
    (norms, biases) is moved off its neutral value, so that leaving one out shows. The special
    tokens have logits of about zero, so no strategy of the suite ever generates them.
    """
    auto_class = getattr(transformers, architecture.model_class)
    model = auto_class.from_config(build_config(architecture), dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * LOGIT_SPREAD / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(noise * 0.1)
        model.get_output_embeddings().weight[:NUM_SPECIAL_TOKENS] = 0.0
    return model


def grouped(**options: object) -> dict[str, object]:
    """Two heads share a key-value head, and a head is not hidden size over heads."""
    return {"num_key_value_heads": 2, "head_dim": 16, **options}


SERVED: tuple[Architecture, ...] = (
    Architecture(
        name="llama",
        config_class="LlamaConfig",
        options=grouped(attention_bias=True, mlp_bias=True),
    ),
    Architecture(
        name="llama-3-rope",
        config_class="LlamaConfig",
        options=grouped(
            tie_word_embeddings=True,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
    ),
    Architecture(
        name="mistral-window",
        config_class="MistralConfig",
        options=grouped(sliding_window=WINDOW),
    ),
    Architecture(
        name="qwen2-window",
        config_class="Qwen2Config",
        options={
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
        },
    ),
    Architecture(name="qwen3", config_class="Qwen3Config", options=grouped()),
    Architecture(
        name="qwen3-moe",
        config_class="Qwen3MoeConfig",
        options=grouped(
            moe_intermediate_size=40,
            num_experts=4,
            num_experts_per_tok=2,
            norm_topk_prob=True,
            decoder_sparse_step=2,
        ),
    ),
    Architecture(name="gemma", config_class="GemmaConfig", options=grouped(num_key_value_heads=1)),
    Architecture(
        name="gemma-2",
        config_class="Gemma2Config",
        options=grouped(
            sliding_window=WINDOW,
            layer_types=ALTERNATING,
            query_pre_attn_scalar=24,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=8.0,
            tie_word_embeddings=False,
        ),
    ),
    Architecture(
        name="gemma-3",
        config_class="Gemma3TextConfig",
        options=grouped(
            sliding_window=WINDOW,
            layer_types=ALTERNATING,
            query_pre_attn_scalar=24,
            tie_word_embeddings=False,
        ),
    ),
    Architecture(
        name="phi",
        config_class="PhiConfig",
        options={"partial_rotary_factor": 0.5, "qk_layernorm": True, "num_key_value_heads": 2},
    ),
    Architecture(
        name="phi-3-window",
        config_class="Phi3Config",
        options={"num_key_value_heads": 2, "sliding_window": WINDOW},
    ),
    Architecture(
        name="gpt-2",
        config_class="GPT2Config",
        is_common=False,
        options={**GPT_2_SIZES, "scale_attn_by_inverse_layer_idx": True},
    ),
    Architecture(
        name="gpt-neox", config_class="GPTNeoXConfig", options={"use_parallel_residual": True}
    ),
    Architecture(
        name="opt",
        config_class="OPTConfig",
        is_common=False,
        options={
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 48,
            "ffn_dim": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT_LENGTH,
            "word_embed_proj_dim": 32,
        },
    ),
    Architecture(
        name="mixtral",
        config_class="MixtralConfig",
        options=grouped(num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    ),
    Architecture(
        name="cohere",
        config_class="CohereConfig",
        options={"num_key_value_heads": 2, "logit_scale": 0.8, "use_qk_norm": True},
    ),
    Architecture(
        name="cohere-2",
        config_class="Cohere2Config",
        options={
            "num_key_value_heads": 2,
            "logit_scale": 0.8,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
        },
    ),
    Architecture(name="olmo-2", config_class="Olmo2Config", options={"num_key_value_heads": 2}),
    Architecture(
        name="granite",
        config_class="GraniteConfig",
        options={
            "num_key_value_heads": 2,
            "embedding_multiplier": 2.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.7,
            "logits_scaling": 1.3,
        },
    ),
    Architecture(
        name="starcoder-2-window",
        config_class="Starcoder2Config",
        options={"num_key_value_heads": 2, "sliding_window": WINDOW},
    ),
    Architecture(
        name="smollm-3",
        config_class="SmolLM3Config",
        options={"num_key_value_heads": 2, "no_rope_layers": [1, 0, 1]},
    ),
    Architecture(name="glm-4", config_class="Glm4Config", options=grouped()),
    Architecture(
        name="gpt-bigcode",  # all query heads share one key head
        config_class="GPTBigCodeConfig",
        is_common=False,
        options=GPT_2_SIZES,
    ),
    Architecture(
        name="deepseek-3",  # values are narrower than keys
        config_class="DeepseekV3Config",
        options={
            "num_key_value_heads": 4,
            "kv_lora_rank": 16,
            "q_lora_rank": 24,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16,
            "v_head_dim": 12,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 40,
        },
    ),
    Architecture(
        name="exaone-4",
        config_class="Exaone4Config",
        options={
            "num_key_value_heads": 2,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
        },
    ),
    Architecture(name="biogpt", config_class="BioGptConfig"),
)
"""Architectures the torch runner serves."""
