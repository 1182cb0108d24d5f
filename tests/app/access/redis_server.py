"""A real Redis that a test starts, stops, kills and starts again. Needs Debian's `redis-server`."""

import shutil
import signal
import socket
import subprocess

BINARY = shutil.which("redis-server")


class RedisServer:
    """One server on a port of its own, with nothing on disk."""

    def __init__(self, *options):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._options = options or ("--port", str(self.port))
        self._process = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            [BINARY, *self._options, *options], stdout=subprocess.PIPE, text=True
        )
        assert any("Ready to accept connections" in line for line in self._process.stdout)

    def freeze(self):
        """It takes connections and commands, as the kernel does that, and answers none."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
