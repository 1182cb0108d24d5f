"""The processes that compute the other shards of a model: started, watched and ended here.

A thread for each reads what it says. One that ends unasked, or says that it failed, ends them all:
`problem` tells, and the service stops with it. Closing their sockets is what ends them, so they go
with this process however it ends.
"""

import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from app.environment import shard_environment
from app.shards.orders import FAREWELL, Failure, Stage
from engine.errors import ShardLost
from engine.shard_group import can_leave_alone, leave_group

END_SECONDS = 10.0  # for the processes to end by themselves, once they are told to
REASON_SECONDS = 2.0  # for its reason to come through after a step with it failed

logger = logging.getLogger(__name__)


class ShardProcesses:
    """All processes of a model but this one. Used by the loading, engine and main threads."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], ends: Sequence[int]) -> None:
        self._processes = processes
        self._connections = [Connection(end) for end in ends]
        self._meeting = tempfile.TemporaryDirectory(prefix="beamline-")
        self._stages: list[Stage | None] = [None] * len(processes)
        self._problem: str | None = None
        self._is_closing = False
        self._changed = threading.Condition()  # guards the three above
        self._sending = threading.Lock()  # held for as long as one of them does not listen
        self._readers = [
            threading.Thread(target=self._read, args=(at,), name=f"shard-{at + 1}", daemon=True)
            for at in range(len(processes))
        ]

    @classmethod
    def start(cls, num_processes: int) -> Self:
        """Start them; they import what they need and wait to be told more."""
        started: list[subprocess.Popen[bytes]] = []
        ends: list[int] = []
        for rank in range(1, num_processes + 1):
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-m", "app.shards.member", str(theirs.fileno())]
                started.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        env=shard_environment(rank),
                        process_group=0,  # a Ctrl-C is for the serving process alone
                    )
                )
            ends.append(ours.detach())
        processes = cls(started, ends)
        for reader in processes._readers:
            reader.start()
        return processes

    @property
    def problem(self) -> str | None:
        """Why no step can be computed any more, or None. Any thread may read it."""
        return self._problem

    @property
    def meeting_file(self) -> Path:
        """A path that only this user's processes can read."""
        return Path(self._meeting.name) / "group"

    def tell(self, message: bytes) -> None:
        """Send the same to all.

        Raises:
            ShardLost: one of them is gone.
        """
        for rank in range(1, len(self._processes) + 1):
            self.tell_one(rank, message)

    def tell_one(self, rank: int, message: bytes) -> None:
        """Send something to one process.

        Raises:
            ShardLost: it is gone, or another is.
        """
        if self._problem is not None:
            raise ShardLost(self._problem)
        try:
            with self._sending:
                self._connections[rank - 1].send_bytes(message)
        except OSError as error:
            raise ShardLost(self.reason()) from error

    def wait_for(self, stage: Stage) -> None:
        """Wait until all have said that they are so far.

        Raises:
            ShardLost: one has failed or ended, with its reason.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._problem is not None or set(self._stages) == {stage}
            )
        if self._problem is not None:
            raise ShardLost(self._problem)

    def reason(self) -> str:
        """Why a step with them failed: what one of them says, else that it did."""
        with self._changed:
            self._changed.wait_for(lambda: self._problem is not None, REASON_SECONDS)
        return self._problem or "the processes of the model have lost step with each other"

    def give_up(self) -> None:
        """Note that a step was not finished, after which the processes cannot be used."""
        self._note(self.reason())

    def close(self) -> None:
        """End all processes. Idempotent."""
        with self._changed:
            if self._is_closing:
                return
            self._is_closing = True
        deadline = time.monotonic() + END_SECONDS
        self._leave(deadline)
        for connection in self._connections:
            _hang_up(connection)
        for process in self._processes:
            try:
                process.wait(_seconds_until(deadline))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader, connection in zip(self._readers, self._connections, strict=True):
            reader.join()
            connection.close()
        self._meeting.cleanup()

    def _leave(self, deadline: float) -> None:
        """Leave the group, unless that could hang."""
        if self._problem is not None:
            return
        if set(self._stages) != {Stage.OPEN}:  # no steps yet that one could be in the middle of
            if can_leave_alone():
                leave_group()
        elif self._say_farewell(deadline):
            leave_group()

    def _say_farewell(self, deadline: float) -> bool:
        """Whether all of them leave the group now; not if one does not listen."""
        if not self._sending.acquire(timeout=_seconds_until(deadline)):
            return False
        try:
            for connection in self._connections:
                connection.send_bytes(FAREWELL)
        except OSError:
            return False
        finally:
            self._sending.release()
        with self._changed:
            self._changed.wait_for(lambda: Stage.OPEN not in self._stages, _seconds_until(deadline))
            return set(self._stages) == {Stage.LEAVING}

    def _read(self, at: int) -> None:
        """Follow one process until its end."""
        try:
            while isinstance(said := self._connections[at].recv(), Stage):
                with self._changed:
                    self._stages[at] = said
                    self._changed.notify_all()
            assert isinstance(said, Failure), f"a process says {said!r}"
            self._note(f"shard {at + 1} of the model failed: {said.reason}")
        except (EOFError, OSError):
            self._note(f"the process of shard {at + 1} of the model has ended")
        with self._changed:
            if self._stages[at] is not Stage.LEAVING:
                self._stages[at] = None
            self._changed.notify_all()

    def _note(self, problem: str) -> None:
        with self._changed:
            if self._problem is None and not self._is_closing:
                self._problem = problem
                logger.error("%s", problem)
            self._changed.notify_all()


def _seconds_until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _hang_up(connection: Connection) -> None:
    """End both directions at once; closing alone would not wake the thread that reads."""
    end = socket.socket(fileno=connection.fileno())
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side is gone already
        pass
    finally:
        end.detach()
