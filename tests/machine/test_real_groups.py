"""A process in real control groups finds their limits, whichever version this machine has.

Groups are only made where this process lies at the top of a tree, so that a group which somebody
else made for it is left alone, and where that is allowed: as root, mostly.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from machine.control_groups import own_groups

LIMITS = {
    ("memory", True): {"memory.max": str(2**29)},
    ("memory", False): {"memory.limit_in_bytes": str(2**29)},
    ("cpu", True): {"cpu.max": "50000 100000"},
    ("cpu", False): {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"},
}


@pytest.fixture
def run_inside(request):
    """Runs Python in a new group without a limit, in one with a limit."""
    controller = request.param
    above = own_groups(controller)
    if len(above) != 1:
        pytest.skip(f"this process is not at the top of a tree of groups for {controller}")
    outer = above[0].folder / f"beamline-test-{os.getpid()}"
    inner = outer / "inner"
    limits = LIMITS[controller, above[0].is_unified]
    try:
        inner.mkdir(parents=True)
        for name, value in limits.items():
            (outer / name).write_text(value)
    except OSError as error:
        _remove(inner, outer)
        pytest.skip(f"groups cannot be made here: {error}")

    def run(code):
        enter = f'echo $$ > "{inner}/cgroup.procs" && exec "$0" -c "$1"'
        command = ["sh", "-c", enter, sys.executable, code]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    yield run
    _remove(inner, outer)


def _remove(*folders):
    for folder in folders:
        if folder.is_dir():
            folder.rmdir()


@pytest.mark.parametrize("run_inside", ["memory"], indirect=True)
def test_memory_is_what_is_left_of_the_limit_above(run_inside):
    code = "from machine.memory import *; print(available_memory_bytes(), total_memory_bytes())"
    available, total = map(int, run_inside(code).split())
    assert total == 2**29
    assert 2**28 < available < total


@pytest.mark.parametrize("run_inside", ["memory"], indirect=True)
def test_memory_that_was_taken_is_missing(run_inside):
    code = (
        "from machine.memory import available_memory_bytes as left; before = left(); "
        "taken = b'x' * 2**27; print(before - left())"
    )
    assert 0.9 * 2**27 < int(run_inside(code)) < 1.2 * 2**27


@pytest.mark.parametrize("run_inside", ["cpu"], indirect=True)
def test_cores_are_those_of_the_limit_above(run_inside):
    code = "from machine.cores import *; print(cpu_quota(), usable_cores())"
    assert run_inside(code) == "0.5 1"
