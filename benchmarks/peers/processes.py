"""A peer's process: started in a group of its own, paused between turns, ended for certain."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.peers.turn import PeerFailed


class PeerProcess:
    """One process and its children. Its log goes to a file; its output too unless it is a pipe."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        has_pipes: bool = False,
    ) -> None:
        self._log: IO[Any] = tempfile.NamedTemporaryFile(prefix="peer-", suffix=".log")  # noqa: SIM115
        pipe = subprocess.PIPE if has_pipes else None
        try:
            self.process = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or self._log,
                stderr=self._log,
                text=True,
                env=None if environment is None else {**_environment(), **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise PeerFailed(f"cannot start {command[0]}: {error.strerror}") from error

    @property
    def last_words(self) -> str:
        """The end of its log in one line."""
        lines = [
            line.strip() for line in Path(self._log.name).read_text(errors="replace").split("\n")
        ]
        return " ".join(" ".join(filter(None, lines)).split())[-300:]

    @contextmanager
    def awake(self) -> Iterator[None]:
        """It runs inside, and is paused before and after."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def memory_bytes(self) -> int:
        """Resident memory of the group's processes."""
        try:
            own = psutil.Process(self.process.pid)
            return sum(one.memory_info().rss for one in (own, *own.children(recursive=True)))
        except psutil.NoSuchProcess:
            return 0

    def close(self) -> None:
        """End the whole group."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def _environment() -> dict[str, str]:
    return dict(os.environ)  # noqa: TID251  handed on as it is
