"""A real Redis that a test starts, kills and starts again. Needs Debian's `redis-server`."""

import shutil
import socket
import subprocess

BINARY = shutil.which("redis-server")


class RedisServer:
    """One server on a port of its own, with nothing on disk."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "")
        self._process = subprocess.Popen(
            [BINARY, *options, "--appendonly", "no"], stdout=subprocess.PIPE, text=True
        )
        assert any("Ready to accept connections" in line for line in self._process.stdout)

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
