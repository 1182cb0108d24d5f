"""Each rule of the doctor speaks where its reason is, and only there."""

from dataclasses import replace

import pytest

from app.doctor.advice import Case, advise
from app.doctor.machine import Machine
from app.doctor.trial import Trial
from app.settings import Settings
from app.state import ServedModel

MACHINE = Machine(
    system="Linux",
    python="3.11",
    packages={"torchao": "1", "uvloop": "1"},
    processor="a processor",
    instructions=("AVX2", "AVX-512 VNNI"),
    num_physical_cores=4,
    num_usable_cores=4,
    cpu_quota=None,
    load=0.5,
    governor="performance",
    threading_variables={},
    total_memory_bytes=2**34,
    available_memory_bytes=2**33,
    used_swap_bytes=0,
    compiler="/usr/bin/g++",
    may_have_cuda=False,
    cache_folder="/cache",
    can_write_cache=True,
    free_cache_bytes=2**34,
)
MODEL = ServedModel(
    name="m",
    revision="r",
    runtime="onnx",
    device="cpu",
    dtype="float32",
    weights="w8a8",
    operators="native",
)
TRIAL = Trial(
    problem=None,
    model=MODEL,
    context_length=2048,
    max_cached_tokens=100_000,
    is_deterministic=True,
)
ON_TORCH = replace(TRIAL, model=replace(MODEL, runtime="torch", operators="torch"))
WITHOUT_OURS = replace(TRIAL, model=replace(MODEL, operators="onnxruntime"))


def advice(*, machine=None, trial=TRIAL, **settings):
    """What is advised, in lines."""
    case = Case(
        settings=Settings(**{"threads": 4} | settings),
        machine=replace(MACHINE, **machine or {}),
        trial=trial,
    )
    return [f"{each.finding}: {each.remedy}" for each in advise(case)]


def test_a_good_machine_gets_no_advice():
    assert advice() == []


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"trial": WITHOUT_OURS, "native": False}, "--no-native is set"),
        ({"trial": WITHOUT_OURS, "machine": {"compiler": None}}, "install g++, or bring operators"),
        ({"trial": WITHOUT_OURS}, "see the remarks of the loader"),
        ({"trial": Trial(problem=None), "machine": {"compiler": None}}, "install g++"),
        ({"trial": ON_TORCH, "runtime": "torch"}, "leave out --runtime"),
        ({"trial": ON_TORCH}, "torch computes on the CPU"),
        ({"trial": replace(TRIAL, model=replace(MODEL, weights="fp32"))}, "w8a8"),
        ({"machine": {"instructions": ("AVX2",)}}, "no instructions for 8-bit products (AVX2)"),
        ({"threads": 6}, "6 threads share 4 cores: set --threads 4"),
        ({"threads": 2}, "2 threads leave some of 4 cores idle"),
        ({"machine": {"cpu_quota": 1.5}}, "may use 1.5 cores"),
        ({"machine": {"threading_variables": {"OMP_WAIT_POLICY": "active"}}}, "OMP_WAIT_POLICY"),
        ({"machine": {"load": 9.0}}, "9.0 processes want 4 cores"),
        ({"machine": {"governor": "powersave"}}, "cpupower"),
        ({"trial": replace(TRIAL, max_cached_tokens=9000)}, "holds 9,000 tokens for 64 rows"),
        ({"machine": {"used_swap_bytes": 3 * 2**30}}, "3.0 GiB are swapped out"),
        ({"machine": {"can_write_cache": False}}, "/cache cannot be written"),
        ({"machine": {"packages": {"torchao": "1", "uvloop": None}}}, "uvloop is missing"),
    ],
)
def test_a_reason_brings_its_advice_alone(case, words):
    (only,) = advice(**case)
    assert words in only


def test_torch_on_a_cpu_without_torchao_brings_both():
    first, second = advice(trial=ON_TORCH, machine={"packages": {"torchao": None, "uvloop": "1"}})
    assert "torch computes on the CPU" in first
    assert "beamline[torchao]" in second


def test_a_cache_for_every_row_of_a_short_context_is_enough():
    assert advice(trial=replace(TRIAL, context_length=64, max_cached_tokens=64 * 64)) == []


def test_this_machine_is_described(tmp_path):
    settings = Settings(cache_folder=tmp_path / "not" / "there")
    machine = Machine.look(settings)
    assert machine.num_usable_cores >= 1
    assert 0 < machine.available_memory_bytes <= machine.total_memory_bytes
    assert machine.packages["torch"]
    assert machine.can_write_cache
    assert machine.free_cache_bytes > 0
