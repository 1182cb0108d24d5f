"""What serving must know of a loaded model besides its weights. Called by `prepare`.

Two facts that models spell in many ways: which tokens end a text, and how long it may get.
"""

from collections.abc import Iterable

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from optimize.errors import UnsupportedModelFormat

# What configurations call the longest sequence; the first that is there counts.
_CONTEXT_LENGTH_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
)
_NO_LIMIT = 1_000_000_000  # a tokenizer without a limit states an enormous one
# Tokens that end a turn in the chat formats in use; counted where the model's own template has one.
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|endofturn|>",
                "<|end_of_turn|>", "<|return|>", "<|END_OF_TURN_TOKEN|>", "<|eom_id|>")  # fmt: skip


def context_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    """The most tokens of prompt and answer together.

    From the configuration of the text model; where that has none (models without learned or
    rotary positions), from the tokenizer.

    Raises:
        UnsupportedModelFormat: neither states one; a guess could fail in the middle of a text.
    """
    config = config.get_text_config(decoder=True)
    for key in _CONTEXT_LENGTH_NAMES:
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    if 0 < tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    raise UnsupportedModelFormat(
        f"{name} does not state its context length. Add max_position_embeddings to its "
        "config.json, or model_max_length to its tokenizer_config.json."
    )


def eos_token_ids(
    config: PreTrainedConfig,
    settings: GenerationConfig | None,
    tokenizer: PreTrainedTokenizerBase,
) -> frozenset[int]:
    """The tokens that end a text.

    Those of the generation settings (else of the configuration), the tokenizer's own end token,
    and the end-of-turn token that its chat template writes. Ids the model cannot produce are left
    out.
    """
    config = config.get_text_config(decoder=True)
    stated = settings.eos_token_id if settings is not None else None
    found = [
        *_as_ids(stated if stated is not None else config.eos_token_id),
        *_as_ids(tokenizer.eos_token_id),
        *_end_of_turn_ids(tokenizer),
    ]
    return frozenset(token_id for token_id in found if 0 <= token_id < config.vocab_size)


def _as_ids(value: object) -> Iterable[int]:
    values = value if isinstance(value, list | tuple) else [value]
    return [token_id for token_id in values if isinstance(token_id, int)]


def _end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> Iterable[int]:
    templates = tokenizer.chat_template
    text = "".join(templates.values()) if isinstance(templates, dict) else templates or ""
    special = tokenizer.get_added_vocab()
    return [special[token] for token in _END_OF_TURN if token in text and token in special]
