"""`beamline serve` on a tiny model, as operators run it: with keys, and always on one port."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.conftest import (
    ServerProcess,
    beamline,
    build_tokenizer,
    save_tiny_model,
    server_environment,
)
from tests.monitoring.prometheus_server import free_port


class Service:
    """One that can be started again, on the same port, with all that `folder` keeps."""

    def __init__(self, folder: Path, *options: str, settings: Mapping[str, str]) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.keys_file = folder / "keys.json"
        self._folder, self._options = folder, options
        self._environment = server_environment(
            BEAMLINE_CACHE_FOLDER=str(folder),
            BEAMLINE_KEYS_FILE=str(self.keys_file),
            BEAMLINE_PUBLIC_METRICS="true",
            **settings,
        )
        self._process: ServerProcess | None = None
        save_tiny_model(folder / "tiny", build_tokenizer())

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address}"

    def add_key(self, *arguments: str) -> str:
        """A new key, by `beamline keys add`."""
        command = beamline("keys", "add", *arguments)
        done = subprocess.run(
            command, env=self._environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._serve("tiny").ready_url()

    def start_in_vain(self) -> None:
        """Start it on a model whose weights are cut off, and wait until it has given up."""
        self._break_model()
        assert self._serve("broken").wait() != 0

    def host_in_vain(self) -> None:
        """The same under plain uvicorn, which does not end with the service that it hosts."""
        self._break_model()
        host, _, port = self.address.rpartition(":")
        command = ["-m", "uvicorn", "app.main:create_app", "--factory", "--host", host]
        settings = {"BEAMLINE_MODEL": str(self._folder / "broken"), "BEAMLINE_DEVICE": "cpu"}
        self._process = ServerProcess(
            [sys.executable, *command, "--port", port], self._environment | settings
        )
        self._process.wait_for_line("cannot serve")

    def stop(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def suspend(self) -> None:
        """Stop the process where it stands, as a machine does that swaps or has no core for it."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.signal(signal.SIGCONT)

    def _break_model(self) -> None:
        save_tiny_model(self._folder / "broken", build_tokenizer())
        weights = self._folder / "broken" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])

    def _serve(self, model: str) -> ServerProcess:
        port = self.address.rpartition(":")[2]
        options = ("--model", str(self._folder / model), "--port", port, "--device", "cpu")
        command = beamline("serve", *options, *self._options)
        self._process = ServerProcess(command, self._environment)
        return self._process
