"""What each parameter of a strategy, and each adjustment, is to be set to so that it shows.

A new strategy adds its parameters here; `test_every_field.py` fails until it does.
"""

from dataclasses import dataclass, field
from typing import Any

BIASED = {"logit_bias": {"7": 20.0}}  # the same token again and again
DRY = {**BIASED, "dry_multiplier": 50.0, "dry_allowed_length": 1}
ENDING = {"logit_bias": {"1": 100.0}}  # the end at once


@dataclass(frozen=True)
class Change:
    """A value that changes the texts or their scores, beside other fields."""

    value: Any
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A value that is refused, in the name of the field."""

    value: Any


@dataclass(frozen=True)
class ShownBy:
    """No small change shows it: a test of its own does, in this file."""

    test: str


EARLY_STOPPING = ShownBy("tests/oracle/test_beam_rules.py")
TEMPERATURE = Change(0.05)
SEVERAL = Change(2)
ORDER = ("top_p", "top_k", "temperature")
FILTERS = {
    "num_return_sequences": SEVERAL,
    "temperature": TEMPERATURE,
    "dynatemp_range": Change(0.95),
    "dynatemp_exponent": Change(50.0, {"dynatemp_range": 0.95}),
    "top_n_sigma": Change(0.1),
    "top_h": Change(0.01),
    "top_k": Change(1),
    "top_p": Change(0.05),
    "min_p": Change(0.95),
    "typical_p": Change(0.01),
    "epsilon_cutoff": Change(0.9),
    "eta_cutoff": Change(0.9),
    "xtc_probability": Change(1.0, {"xtc_threshold": 0.01}),
    "xtc_threshold": Change(0.01, {"xtc_probability": 1.0}),
    "samplers": Change(ORDER, {"temperature": 5.0, "top_p": 0.3, "top_k": 20}),
}
BEAMS = {
    "num_beams": Change(1),
    "num_return_sequences": SEVERAL,
    "length_penalty": Change(0.0),
    "early_stopping": EARLY_STOPPING,
}
STRATEGIES = {
    "default": {**FILTERS, "best_of": Change(4)},
    "greedy": {"num_return_sequences": Refused(2)},
    "sample": FILTERS,
    "top_k": {"num_return_sequences": SEVERAL, "temperature": TEMPERATURE, "top_k": Change(1)},
    "top_p": {"num_return_sequences": SEVERAL, "temperature": TEMPERATURE, "top_p": Change(0.05)},
    "min_p": {"num_return_sequences": SEVERAL, "temperature": TEMPERATURE, "min_p": Change(0.95)},
    "typical": {
        "num_return_sequences": SEVERAL,
        "temperature": TEMPERATURE,
        "typical_p": Change(0.01),
    },
    "epsilon": {
        "num_return_sequences": SEVERAL,
        "temperature": TEMPERATURE,
        "epsilon_cutoff": Change(0.9),
    },
    "eta": {"num_return_sequences": SEVERAL, "temperature": TEMPERATURE, "eta_cutoff": Change(0.9)},
    "top_h": {"num_return_sequences": SEVERAL, "temperature": TEMPERATURE, "top_h": Change(0.01)},
    "top_n_sigma": {
        "num_return_sequences": SEVERAL,
        "temperature": TEMPERATURE,
        "top_n_sigma": Change(0.1),
    },
    "xtc": {
        "num_return_sequences": SEVERAL,
        "temperature": TEMPERATURE,
        "xtc_probability": Change(0.0),
        "xtc_threshold": Change(0.01, {"xtc_probability": 1.0}),
        "min_p": Change(0.95),
    },
    "dynamic_temperature": {
        "num_return_sequences": SEVERAL,
        "temperature": TEMPERATURE,
        "dynatemp_range": Change(0.95),
        "dynatemp_exponent": Change(50.0, {"dynatemp_range": 0.95}),
        "min_p": Change(0.95),
    },
    "mirostat": {
        "num_return_sequences": SEVERAL,
        "temperature": TEMPERATURE,
        "mirostat": Change(1),
        "mirostat_tau": Change(0.1),
        "mirostat_eta": Change(1.0),
    },
    "beam": BEAMS,
    "beam_sample": {**FILTERS, **BEAMS},
    "diverse_beam": {
        **BEAMS,
        "num_beams": Change(8),
        "num_beam_groups": Change(4, {"num_return_sequences": 4}),
        "diversity_penalty": Change(0.01, {"num_return_sequences": 4}),
    },
    "constrained_beam": {**BEAMS, "num_beams": Change(2), "force_words": Change(["fox"])},
    "best_of": {**FILTERS, "best_of": Change(8)},
    "contrastive": {
        "num_return_sequences": Refused(2),
        "top_k": Change(2),
        "penalty_alpha": Change(0.99),
    },
}
JUDGED = {  # the labels of its questions need tokens that the tiny tokenizer lacks
    field: ShownBy("tests/app/routes/test_judge.py") for field in ("state", "questions", "model")
}
STRATEGIES["dola"] = {
    **{
        name: Change(change.value, {**change.beside, "do_sample": True})
        for name, change in FILTERS.items()
    },
    "do_sample": Change(True),
    "dola_layers": Change([1]),
    "relative_top": Change(1.0),
}
REQUIRED = {"constrained_beam": {"force_words": ["dog"]}}  # what a strategy cannot do without

ADJUSTMENTS = {
    "seed": Change(4, {"strategy": "sample"}),
    "repetition_penalty": Change(50.0),
    "presence_penalty": Change(2.0, {"logit_bias": {"7": 4.0}}),
    "frequency_penalty": Change(2.0, {"logit_bias": {"7": 6.0}}),
    "dry_multiplier": Change(50.0, {**BIASED, "dry_allowed_length": 1}),
    "dry_base": Change(9.0, {**BIASED, "dry_multiplier": 0.2, "dry_allowed_length": 1}),
    "dry_allowed_length": Change(5, DRY),
    "dry_penalty_last_n": Change(1, DRY),
    "dry_sequence_breakers": ShownBy("tests/app/routes/test_generate_adjustments.py"),
    "no_repeat_ngram_size": Change(1, BIASED),
    "logit_bias": Change({"7": 20.0}),
    "min_new_tokens": Change(5, ENDING),
    "forced_bos_token_id": Change(9),
    "forced_eos_token_id": Change(9),
    "suppress_tokens": Change([7], BIASED),
    "begin_suppress_tokens": Change([7], BIASED),
    **dict.fromkeys(
        ("timeout", "queue_timeout", "priority"),
        ShownBy("tests/app/routes/test_generate_urgency.py"),
    ),
    "watermark": Change({"bias": 30.0}),
    "structured_outputs": Change({"choice": ["dog"]}),
    "guidance_scale": Change(20.0),
    "negative_prompt": Change("dog", {"guidance_scale": 20.0}),
}
