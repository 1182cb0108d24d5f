"""Threads are counted by what a container allows, not by what the host has."""

import os

import psutil
import pytest

from machine.cores import cpu_quota, usable_cores


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with eight, all of which this process may use."""
    monkeypatch.setattr(psutil, "cpu_count", lambda *, logical: 16 if logical else 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(16)))


def version_1(quota, period=100_000):
    return {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}


@pytest.mark.parametrize("text", ["max 100000", "", "nonsense", "1 2 3"])
def test_without_a_limit_all_cores_are_used(groups, text):
    groups.unified("/")
    groups.write("unified", "/", {"cpu.max": text})
    assert cpu_quota(groups.process) is None
    assert usable_cores(groups.process) == 8


@pytest.mark.parametrize(
    ("text", "quota", "cores"),
    [("50000 100000", 0.5, 1), ("150000 100000", 1.5, 2), ("100000000 100000", 1000.0, 8)],
)
def test_limit_is_rounded_up_to_whole_cores_of_the_machine(groups, text, quota, cores):
    groups.unified("/")
    groups.write("unified", "/", {"cpu.max": text})
    assert cpu_quota(groups.process) == quota
    assert usable_cores(groups.process) == cores


def test_missing_file_is_no_limit(tmp_path):
    assert cpu_quota(tmp_path) is None
    assert usable_cores(tmp_path) == 8


def test_least_limit_of_all_groups_above_counts(groups):
    groups.unified("/pod/container")
    groups.write("unified", "/", {"cpu.max": "max 100000"})
    groups.write("unified", "/pod", {"cpu.max": "300000 100000"})
    groups.write("unified", "/pod/container", {"cpu.max": "200000 50000"})
    assert cpu_quota(groups.process) == 3.0
    groups.write("unified", "/pod/container", {"cpu.max": "100000 50000"})
    assert usable_cores(groups.process) == 2


def test_version_1_counts_as_well(groups):
    groups.separate("cpu,cpuacct", "/pod/container")
    groups.write("cpu,cpuacct", "/", version_1(-1))
    groups.write("cpu,cpuacct", "/pod", version_1(500_000))
    groups.write("cpu,cpuacct", "/pod/container", version_1(-1))
    assert cpu_quota(groups.process) == 5.0
    groups.write("cpu,cpuacct", "/pod/container", version_1(100_000, 50_000))
    assert usable_cores(groups.process) == 2


def test_affinity_limits_cores(tmp_path, monkeypatch):
    monkeypatch.undo()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
