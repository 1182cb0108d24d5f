"""`beamline bench`, the shipped load generator, run as a process of its own."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.conftest import beamline, server_environment

MANY = "4000"  # requests, more than any test waits for


def measure(url: str, *options: str, key: str, file: Path) -> dict:
    """What a load of some requests came to, as it writes it to `file`."""
    command = beamline("bench", url, *options, "--json", str(file), "--records")
    done = subprocess.run(
        command, env=_environment(key), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    (load,) = json.loads(file.read_text())["loads"].values()
    return load | {"printed": done.stdout}


@contextmanager
def load(url: str, *options: str, key: str, body: Mapping[str, object]) -> Iterator[None]:
    """A load that lasts as long as the block, unless `options` say how many requests it has."""
    always = ("--warm-up", "0", "--requests", MANY, "--body", json.dumps(body))
    process = subprocess.Popen(beamline("bench", url, *always, *options), env=_environment(key))
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _environment(key: str) -> dict[str, str]:
    return server_environment(BEAMLINE_API_KEY=key)
