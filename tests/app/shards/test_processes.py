"""The other processes of a split model, as the serving process sees them: real ones, each alone."""

import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from app.shards import processes as module
from app.shards.orders import LoadOrder, Stage
from app.shards.processes import ShardProcesses
from engine.errors import ShardLost
from engine.shard_group import ShardPlace

MORE_THAN_A_SOCKET_HOLDS = bytes(32 * 2**20)


@pytest.fixture
def processes() -> Iterator[ShardProcesses]:
    started = ShardProcesses.start(1)
    yield started
    started.close()


def member() -> psutil.Process:
    (found,) = [
        each for each in psutil.Process().children() if "app.shards.member" in cmdline(each)
    ]
    return found


def cmdline(process: psutil.Process) -> list[str]:
    return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()


def test_closing_ends_one_that_has_nothing_to_do(processes: ShardProcesses) -> None:
    other = member()
    processes.close()
    assert not other.is_running()
    assert processes.problem is None


def test_a_signal_to_the_group_of_the_serving_process_does_not_reach_it(
    processes: ShardProcesses,
) -> None:
    assert os.getpgid(member().pid) != os.getpgid(0)
    assert processes.problem is None


def test_one_that_is_killed_ends_the_waiting_for_it(processes: ShardProcesses) -> None:
    member().kill()
    with pytest.raises(ShardLost, match="the process of shard 1 of the model has ended"):
        processes.wait_for(Stage.LOADED)
    with pytest.raises(ShardLost, match="has ended"):
        processes.tell(b"anything")


def test_one_that_cannot_load_says_why(processes: ShardProcesses, tmp_path: Path) -> None:
    place = ShardPlace(
        rank=0,
        size=1,  # it meets itself
        meeting_file=processes.meeting_file,
        device="cpu",
        timeout_seconds=60.0,
    )
    order = LoadOrder(
        place=place,
        folder=tmp_path / "gone",
        dtype="float32",
        trust_remote_code=False,
        num_threads=1,
    )
    processes.tell(pickle.dumps(order))
    with pytest.raises(ShardLost, match=r"shard 1 of the model failed: .*gone"):
        processes.wait_for(Stage.LOADED)


def test_one_that_does_not_listen_holds_up_neither_the_end_nor_who_tells_it(
    processes: ShardProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.2)
    other = member()
    other.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        telling = pool.submit(processes.tell, MORE_THAN_A_SOCKET_HOLDS)
        processes.close()
        assert not other.is_running()
        with pytest.raises(ShardLost):
            telling.result()
