"""Filters and penalties against what llama.cpp's own samplers did to the same rows.

`llama_cpp/record_samplers.py` ran the samplers, as a package compiled them, and says how to do it
again; `llama_cpp/samplers.json` is what came out.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from decoding.adjuster import compile_adjustments
from decoding.adjustments import Adjustments
from decoding.base import Task
from decoding.params import Processing
from decoding.processors.adjust import adjust
from decoding.processors.chain import Filtering, apply_filters
from tests.decoding.rows import FixedRow

RECORD = json.loads((Path(__file__).parent / "llama_cpp" / "samplers.json").read_text())
ROW = FixedRow(prompt_ids=(), generated_ids=tuple(RECORD["history"]))

Parameters = Mapping[str, float]
OURS: Mapping[str, Callable[[Parameters], Processing | Adjustments]] = {
    "temp": lambda p: Processing(temperature=p["t"]),
    "temp_ext": lambda p: Processing(
        temperature=p["t"], dynatemp_range=p["delta"], dynatemp_exponent=p["exponent"]
    ),
    "top_k": lambda p: Processing(top_k=p["k"]),
    "top_p": lambda p: Processing(top_p=p["p"]),
    "min_p": lambda p: Processing(min_p=p["p"]),
    "typical": lambda p: Processing(typical_p=p["p"]),
    "top_n_sigma": lambda p: Processing(top_n_sigma=p["n"]),
    "xtc": lambda p: Processing(xtc_probability=p["p"], xtc_threshold=p["t"]),
    "mirostat_v2": lambda p: Processing(mirostat=2, mirostat_mu=2 * p["tau"]),
    "penalties": lambda p: Adjustments(
        repetition_penalty=p["repeat"], frequency_penalty=p["freq"], presence_penalty=p["present"]
    ),
    "dry": lambda p: Adjustments(
        dry_multiplier=p["multiplier"], dry_base=p["base"], dry_allowed_length=p["allowed_length"]
    ),
}
"""What asks of us what llama.cpp's parameters ask of it."""


def scores_of(asked: Processing | Adjustments, logits: torch.Tensor) -> torch.Tensor:
    if isinstance(asked, Processing):
        return apply_filters(logits, [Filtering(asked)] * len(logits))
    adjuster = compile_adjustments(asked, Task(max_new_tokens=100, seed=0))
    return adjust(logits, [ROW] * len(logits), [adjuster] * len(logits))


@pytest.mark.parametrize(
    "case", RECORD["cases"], ids=lambda case: f"{case['sampler']}-{case['parameters']}"
)
def test_what_is_left_of_a_row_is_what_llama_cpp_leaves(case):
    asked = OURS[case["sampler"]](case["parameters"])
    scores = scores_of(asked, torch.tensor(RECORD["logits"]))
    for row, expected in zip(scores, case["left"], strict=True):
        left = {at: score for at, score in enumerate(row.tolist()) if score > float("-inf")}
        assert left.keys() == set(map(int, expected))
        # What is drawn depends on differences alone.
        highest, expected_highest = max(left.values()), max(expected.values())
        for token_id, logit in expected.items():
            assert left[int(token_id)] - highest == pytest.approx(
                logit - expected_highest, abs=1e-3
            )


def test_every_recorded_sampler_changes_something():
    for case in RECORD["cases"]:
        rows = [dict(enumerate(row)) for row in RECORD["logits"]]
        left = [{int(token): logit for token, logit in each.items()} for each in case["left"]]
        assert any(
            before.keys() != after.keys() or any(abs(before[t] - after[t]) > 0.01 for t in after)
            for before, after in zip(rows, left, strict=True)
        ), case["sampler"]
