"""Threads are counted by what a container allows, not by what the host has."""

import os

import psutil
import pytest

from app.cores import usable_cores


@pytest.fixture
def quota(tmp_path):
    def write(text):
        file = tmp_path / "cpu.max"
        file.write_text(text)
        return file

    return write


def most_cores():
    return min(psutil.cpu_count(logical=False), len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("text", ["max 100000", "", "nonsense"])
def test_without_a_limit_all_cores_are_used(quota, text):
    assert usable_cores(quota(text)) == most_cores()


def test_a_limit_of_half_a_core_still_leaves_one_thread(quota):
    assert usable_cores(quota("50000 100000")) == 1


def test_a_missing_file_is_no_limit(tmp_path):
    assert usable_cores(tmp_path / "none") == most_cores()


def test_a_generous_limit_changes_nothing(quota):
    assert usable_cores(quota("100000000 100000")) == most_cores()


def test_affinity_limits_cores(tmp_path):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores(tmp_path / "none") == 1
    finally:
        os.sched_setaffinity(0, before)
