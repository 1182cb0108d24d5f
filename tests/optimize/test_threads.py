"""Preparing a model keeps to the cores that a container may use."""

import pytest
import torch

from optimize import threads


@pytest.fixture
def torch_with_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_with_two_threads")
def test_torch_takes_no_more_threads_than_usable_cores_and_is_given_none(monkeypatch):
    for cores, expected in ((8, 2), (1, 1), (8, 1)):
        monkeypatch.setattr(threads, "usable_cores", lambda cores=cores: cores)
        threads.stay_within_cores()
        assert torch.get_num_threads() == expected
