"""Peers that are libraries: a worker script in their own environment, asked in lines of JSON.

A worker gets the model's path as its argument, loads it, writes `{"ready": true}`, and answers each
line `{"prompts": [...], "new_tokens": n, "concurrency": c}` with the fields of a `Turn`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load.workload import PromptRequest
from benchmarks.peers.processes import PeerProcess
from benchmarks.peers.turn import PeerFailed, Turn

WORKERS = Path(__file__).parent / "workers"


@dataclass(slots=True, kw_only=True)
class WorkerPeer:
    """A library in a process of its own."""

    name: str
    python: Path
    script: str  # of `workers`
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: PeerProcess | None = None

    def start(self) -> None:
        """Load the model."""
        command = [str(self.python), str(WORKERS / self.script), *self.arguments]
        self._process = PeerProcess(command, environment=self.environment, has_pipes=True)
        with self._process.awake():
            self._read(self._process)

    def take_turn(self, requests: Sequence[PromptRequest], concurrency: int) -> Turn:
        """Answer the requests."""
        process = self._process
        assert process is not None, "it was started"
        order = {
            "prompts": [request.text for request in requests],
            "new_tokens": requests[0].max_new_tokens,
            "concurrency": concurrency,
        }
        with process.awake():
            assert process.process.stdin is not None, "it has pipes"
            try:
                process.process.stdin.write(json.dumps(order) + "\n")
                process.process.stdin.flush()
            except OSError as error:
                raise PeerFailed(f"died: {process.last_words}") from error
            answer = self._read(process)
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return Turn(**answer)

    def memory_bytes(self) -> int:
        """Of the worker and its children."""
        return 0 if self._process is None else self._process.memory_bytes()

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.close()

    def _read(self, process: PeerProcess) -> dict[str, Any]:
        """The next line that is ours; libraries write others between."""
        assert process.process.stdout is not None, "it has pipes"
        for line in process.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise PeerFailed(f"ended: {process.last_words}")
