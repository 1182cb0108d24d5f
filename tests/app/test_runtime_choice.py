"""Which runtime is chosen, and which settings contradict each other."""

from pathlib import Path

import pytest

from app.runtime_choice import check_runtime, must_be_onnx, why_torch
from app.settings import Settings
from optimize.check import CheckedFolder, CheckedOnnx
from optimize.errors import ModelRefused

FOLDER = CheckedFolder(name="plain", folder=Path("plain"))
EXPORTED = CheckedOnnx(name="exported", folder=Path("exported"))


@pytest.mark.parametrize(
    ("options", "checked", "words"),
    [
        ({"runtime": "torch"}, EXPORTED, "--runtime torch"),
        ({"weights": "int8"}, EXPORTED, "--weights"),
        ({"calibration": "text.txt"}, EXPORTED, "--calibration"),
        ({"device": "cuda"}, EXPORTED, "--device is cuda"),
        ({"dtype": "bfloat16"}, EXPORTED, "--dtype"),
        ({"runtime": "onnx", "device": "cuda:1"}, FOLDER, "--device is cuda:1"),
        ({"runtime": "onnx", "dtype": "float32"}, FOLDER, "--dtype"),
        ({"weights": "w8a8", "dtype": "float16"}, FOLDER, "--dtype"),
        ({"runtime": "torch", "weights": "w8a8"}, FOLDER, "--weights"),
        ({"runtime": "torch", "calibration": "text.txt"}, FOLDER, "--calibration"),
        ({"weights": "fp32", "calibration": "text.txt"}, FOLDER, "--calibration"),
    ],
)
def test_contradictions_are_refused_by_name(options, checked, words):
    with pytest.raises(ModelRefused, match=words):
        check_runtime(Settings(**options), checked)


@pytest.mark.parametrize(
    ("options", "checked"),
    [
        ({}, FOLDER),
        ({}, EXPORTED),
        ({"device": "cuda"}, FOLDER),
        ({"dtype": "float32"}, FOLDER),
        ({"runtime": "onnx", "device": "cpu"}, EXPORTED),
        ({"runtime": "torch", "dtype": "float32"}, FOLDER),
        ({"weights": "int4"}, FOLDER),
        ({"calibration": "text.txt"}, FOLDER),
    ],
)
def test_what_agrees_passes(options, checked):
    check_runtime(Settings(**options), checked)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"runtime": "torch"}, "--runtime"),
        ({"dtype": "float32"}, "--dtype float32"),
        ({"device": "cuda:1"}, "cuda:1"),
    ],
)
def test_torch_is_chosen_with_a_reason(options, reason):
    assert reason in why_torch(Settings(**options), FOLDER)


@pytest.mark.parametrize(
    "options", [{"device": "cpu"}, {"runtime": "onnx"}, {"weights": "fp32"}, {"calibration": "a"}]
)
def test_a_cpu_gets_onnx(options):
    assert why_torch(Settings(**options), FOLDER) is None


def test_only_a_word_of_the_user_or_an_export_makes_onnx_a_must():
    assert not must_be_onnx(Settings(), FOLDER)
    assert must_be_onnx(Settings(), EXPORTED)
    assert must_be_onnx(Settings(weights="w8a8"), FOLDER)
