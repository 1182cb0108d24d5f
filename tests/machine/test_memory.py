"""Memory is what the machine and every limit of a container leave of it."""

import psutil
import pytest

from machine.memory import available_memory_bytes, total_memory_bytes

UNLIMITED = 9223372036854771712  # as version 1 writes it
POD = "/kubepods.slice/pod7.slice"
CONTAINER = f"{POD}/cri-3.scope"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One with ten million bytes, of which nine are free."""
    memory = psutil.virtual_memory()._replace(total=10_000_000, available=9_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def limit_of_version_1(limit, used, *, least=UNLIMITED, reclaimable=0):
    stat = f"cache 5\ninactive_file 1\nhierarchical_memory_limit {least}\n"
    return {
        "memory.limit_in_bytes": limit,
        "memory.usage_in_bytes": used,
        "memory.memsw.limit_in_bytes": UNLIMITED,
        "memory.stat": f"{stat}total_inactive_file {reclaimable}",
    }


def found(groups):
    return available_memory_bytes(groups.process), total_memory_bytes(groups.process)


def test_without_groups_it_is_the_machines(tmp_path):
    assert available_memory_bytes(tmp_path) == 9_000_000
    assert total_memory_bytes(tmp_path) == 10_000_000


def test_limit_counts_and_file_pages_that_may_go_are_free(groups):
    groups.unified("/")
    groups.write("unified", "/", {"memory.max": 1_000_000, "memory.current": 900_000})
    assert found(groups) == (100_000, 1_000_000)
    groups.write("unified", "/", {"memory.stat": "anon 5\ninactive_file 50000\nactive_file 7"})
    assert found(groups) == (150_000, 1_000_000)


def test_max_is_no_limit(groups):
    groups.unified("/")
    files = {"memory.max": "max", "memory.high": "max", "memory.current": 900_000}
    groups.write("unified", "/", files)
    assert found(groups) == (9_000_000, 10_000_000)


def test_what_others_took_of_the_machine_counts_within_a_generous_limit(groups):
    groups.unified("/")
    groups.write("unified", "/", {"memory.max": 9_500_000, "memory.current": 1})
    assert found(groups) == (9_000_000, 9_500_000)


@pytest.mark.parametrize("tight", ["/", "/kubepods.slice", POD, CONTAINER])
def test_least_room_of_all_groups_above_counts(groups, tight):
    groups.unified(CONTAINER)
    for group in ("/", "/kubepods.slice", POD, CONTAINER):
        groups.write("unified", group, {"memory.max": 3_000_000, "memory.current": 500_000})
    groups.write("unified", tight, {"memory.current": 2_800_000})
    assert found(groups) == (200_000, 3_000_000)


def test_groups_beside_do_not_count(groups):
    groups.unified(CONTAINER)
    groups.write("unified", CONTAINER, {"memory.max": 3_000_000, "memory.current": 1_000_000})
    groups.write("unified", f"{POD}/other", {"memory.max": 10, "memory.current": 10})
    assert found(groups) == (2_000_000, 3_000_000)


def test_where_processes_are_held_up_is_a_limit_too(groups):
    groups.unified("/")
    files = {"memory.max": 2_000_000, "memory.high": 1_500_000, "memory.current": 1_000_000}
    groups.write("unified", "/", files)
    assert found(groups) == (500_000, 1_500_000)


def test_swap_gives_no_room(groups):
    groups.unified("/")
    files = {"memory.max": 2_000_000, "memory.current": 1_500_000, "memory.swap.max": "max"}
    groups.write("unified", "/", files)
    assert found(groups) == (500_000, 2_000_000)


def test_group_over_its_limit_has_no_room(groups):
    groups.unified("/")
    groups.write("unified", "/", {"memory.max": 1_000_000, "memory.current": 1_000_001})
    assert available_memory_bytes(groups.process) == 0


def test_version_1_counts_as_well(groups):
    groups.separate("memory", "/docker/7")
    groups.write("memory", "/", limit_of_version_1(UNLIMITED, 5_000_000))
    files = limit_of_version_1(2_000_000, 900_000, reclaimable=100_000)
    groups.write("memory", "/docker/7", files)
    assert found(groups) == (1_200_000, 2_000_000)


def test_version_1_tells_of_limits_above_that_are_not_seen(groups):
    groups.separate("memory", CONTAINER, root=CONTAINER)
    groups.write("memory", "/", limit_of_version_1(UNLIMITED, 1_000_000, least=3_000_000))
    assert found(groups) == (2_000_000, 3_000_000)


def test_machine_with_both_versions_has_memory_in_one(groups):
    groups.unified("/")
    groups.write("unified", "/", {"memory.max": 10, "memory.current": 10})
    groups.separate("cpu,cpuacct", "/")
    groups.separate("memory", "/a")
    groups.write("memory", "/a", limit_of_version_1(2_000_000, 500_000))
    assert found(groups) == (1_500_000, 2_000_000)


def test_container_that_sees_its_own_group_as_the_topmost_finds_it(groups):
    groups.unified(CONTAINER, root=CONTAINER)
    groups.write("unified", "/", {"memory.max": 1_000_000, "memory.current": 400_000})
    assert found(groups) == (600_000, 1_000_000)


@pytest.mark.parametrize(("path", "root"), [("/", "/.."), ("/../other", "/"), ("/a", "/b")])
def test_where_the_own_group_is_hidden_the_top_of_the_mount_counts(groups, path, root):
    groups.unified(path, root=root)
    groups.write("unified", "/", {"memory.max": 1_000_000, "memory.current": 400_000})
    assert found(groups) == (600_000, 1_000_000)


def test_group_that_is_gone_or_says_nothing_is_no_limit(groups):
    groups.unified("/gone/below")
    groups.write("unified", "/gone", {"memory.max": "", "memory.stat": "torn"})
    assert found(groups) == (9_000_000, 10_000_000)


def test_controller_that_is_mounted_nowhere_is_no_limit(groups):
    groups.separate("cpu", "/")
    assert found(groups) == (9_000_000, 10_000_000)


def test_process_of_this_machine_can_be_asked(monkeypatch):
    monkeypatch.undo()
    assert 0 < available_memory_bytes() <= total_memory_bytes() <= psutil.virtual_memory().total
