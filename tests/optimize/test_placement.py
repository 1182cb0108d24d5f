"""Placement follows the machine: CUDA where present, the CPU else, and names are never guessed."""

import pytest
import torch

from optimize.errors import InvalidPlacement
from optimize.placement import choose_placement


@pytest.fixture
def cuda(monkeypatch):
    """Pretend that this machine has two CUDA devices, with or without bfloat16."""
    state = {"bfloat16": True}
    monkeypatch.setattr("optimize.placement_names.may_have_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: state["bfloat16"])
    monkeypatch.setattr(torch.cuda, "device", lambda _index: torch.no_grad())
    return state


def test_cpu_computes_in_float32():
    placement = choose_placement("cpu", None)
    assert (placement.device, placement.dtype) == ("cpu", "float32")
    assert placement.torch_dtype is torch.float32


@pytest.mark.usefixtures("cuda")
def test_cuda_is_preferred_in_bfloat16():
    placement = choose_placement(None, None)
    assert (placement.device, placement.dtype) == ("cuda:0", "bfloat16")


def test_card_without_bfloat16_gets_float16(cuda):
    cuda["bfloat16"] = False
    assert choose_placement("cuda:1", None).dtype == "float16"


@pytest.mark.usefixtures("cuda")
def test_named_dtype_is_kept():
    assert choose_placement("cuda", "float32").dtype == "float32"


@pytest.mark.usefixtures("cuda")
def test_absent_card_is_refused():
    with pytest.raises(InvalidPlacement, match="there are 2 CUDA devices"):
        choose_placement("cuda:2", None)


def test_cuda_that_torch_does_not_find_is_refused(monkeypatch):
    monkeypatch.setattr("optimize.placement_names.may_have_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidPlacement, match="nvidia-smi"):
        choose_placement("cuda", None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_free_memory_of_a_real_card_is_known():
    placement = choose_placement(None, None)
    assert 0 < placement.available_bytes() <= torch.cuda.get_device_properties(0).total_memory
