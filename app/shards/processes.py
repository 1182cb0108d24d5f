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
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from app.environment import shard_environment
from app.shards.orders import Failure, Stage
from engine.errors import ShardLost
from engine.shard_group import leave_group

END_SECONDS = 10.0  # for a process to end by itself once its socket is closed
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
        if self._problem is None:
            leave_group()
        for process, connection, reader in zip(
            self._processes, self._connections, self._readers, strict=True
        ):
            _hang_up(connection)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            reader.join()
            connection.close()
        self._meeting.cleanup()

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

    def _note(self, problem: str) -> None:
        with self._changed:
            if self._problem is None and not self._is_closing:
                self._problem = problem
                logger.error("%s", problem)
            self._changed.notify_all()


def _hang_up(connection: Connection) -> None:
    """End both directions at once; closing alone would not wake the thread that reads."""
    end = socket.socket(fileno=connection.fileno())
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side is gone already
        pass
    finally:
        end.detach()
