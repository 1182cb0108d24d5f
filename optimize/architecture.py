"""Refuses what is not a decoder-only language model, before any of it is loaded.

Called by `check`. Decides from names alone: config.json, or the head of a GGUF file. Whether the
engine can run an architecture correctly is the engine's own test; this one keeps the wrong kinds
of model out, and code that nobody has agreed to run.
"""

from collections.abc import Mapping

from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

from optimize.errors import RemoteCodeRefused, UnsupportedModelFormat
from optimize.gguf_header import GgufHeader

_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ModelWithLMHead", "ForConditionalGeneration")
_ENCODER_DECODERS_IN_GGUF = {"t5", "t5encoder", "umt5"}
_NOT_ARCHITECTURES = {"general", "tokenizer"}  # other keys of the table of GGUF settings
_OLD_MODEL_TYPES = {"gpt-sw3"}  # known to transformers under an alias that its table leaves out


def check_folder_architecture(
    name: str,
    config: Mapping[str, object],
    tokenizer_config: Mapping[str, object],
    *,
    trust_remote_code: bool,
) -> None:
    """Check that transformers can build a decoder-only model from this config.

    Raises:
        RemoteCodeRefused: it needs Python code of the model's own, which is not trusted.
        UnsupportedModelFormat: another kind of model, or one transformers does not know.
    """
    _check_code(name, config, tokenizer_config, trust_remote_code=trust_remote_code)
    if config.get("is_encoder_decoder"):
        raise UnsupportedModelFormat(
            f"{name} is an encoder-decoder model ({config.get('model_type')}). "
            "Only decoder-only language models can be served."
        )
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures or "auto_map" in config:
        return
    if not any(str(architecture).endswith(_CAUSAL_ENDINGS) for architecture in architectures):
        raise UnsupportedModelFormat(
            f"{name} is a {', '.join(map(str, architectures))}, which does not generate text. "
            "Give a causal language model (a ...ForCausalLM)."
        )


def check_gguf_architecture(name: str, header: GgufHeader) -> None:
    """Check that transformers can read this GGUF file, with everything that changes its results.

    Raises:
        UnsupportedModelFormat: its architecture, or a setting that transformers would drop.
    """
    architecture = header.architecture
    if architecture in _ENCODER_DECODERS_IN_GGUF:
        raise UnsupportedModelFormat(
            f"{name} is an encoder-decoder model ({architecture}). "
            "Only decoder-only language models can be served."
        )
    if _plain(architecture) not in _READABLE_GGUF:
        raise UnsupportedModelFormat(
            f"{name}: transformers cannot read the GGUF architecture {architecture!r}. "
            "Use the model's own folder with safetensors weights instead."
        )
    if _has_rope_scaling(header):
        raise UnsupportedModelFormat(
            f"{name} scales its rotary positions, which transformers drops when it reads a GGUF "
            "file: the text would go wrong without a word. "
            "Use the model's own folder with safetensors weights instead."
        )


def _check_code(
    name: str,
    config: Mapping[str, object],
    tokenizer_config: Mapping[str, object],
    *,
    trust_remote_code: bool,
) -> None:
    brings_code = "auto_map" in config or "auto_map" in tokenizer_config
    model_type = str(config.get("model_type"))
    is_known = model_type in CONFIG_MAPPING_NAMES or model_type in _OLD_MODEL_TYPES
    if brings_code and not is_known and not trust_remote_code:
        raise RemoteCodeRefused(
            f"{name} needs Python code that comes with the model. It is not run unless you ask "
            "for it: read the code, then start with --trust-remote-code."
        )
    if not is_known and not brings_code:
        raise UnsupportedModelFormat(
            f"{name}: the installed transformers does not know the model type {model_type!r} of "
            "its config.json. Upgrade transformers, or use another model."
        )


def _has_rope_scaling(header: GgufHeader) -> bool:
    kind = header.setting("rope.scaling.type")
    factors = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
    return kind not in {None, "none"} or any(tensor.name in factors for tensor in header.tensors)


def _plain(architecture: str) -> str:
    """Spelled as GGUF (`qwen2moe`, `gpt-oss`) or as transformers (`qwen2_moe`), the same name."""
    return architecture.replace("-", "").replace("_", "")


_READABLE_GGUF = {
    _plain(architecture)
    for architecture in (*GGUF_CONFIG_MAPPING, *GGUF_CONFIG_ARCHS)
    if architecture not in _NOT_ARCHITECTURES
}
