"""Starts the service once while an image is made: `try_start.py [FOLDER OF MODELS]`.

It shows that what was installed and trimmed serves. Without a model its modules are only imported.
"""

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from importlib import import_module
from pathlib import Path

SERVICE = ("app.commands.serving", "app.loading", "engine.native_runner", "engine.torch_runner")


def main(models: Path | None) -> None:
    """Serve each model there is, or import what serves."""
    folders = sorted(models.iterdir()) if models is not None else []
    if not folders:
        for module in SERVICE:
            import_module(module)
    for folder in folders:
        serve_once(folder)


def serve_once(model: Path) -> None:
    """Start, generate, and stop as an orchestrator does.

    Raises:
        SystemExit: one of them failed.
    """
    program = Path(sys.executable).with_name("beamline")
    with tempfile.TemporaryDirectory() as cache:
        service = subprocess.Popen(
            [
                *(str(program), "serve", "--model", str(model), "--port", "0"),
                *("--cache-folder", cache),
                *("--operators-folder", str(program.parents[1] / "operators")),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            answer = generate(ready_url(service))
            service.send_signal(signal.SIGTERM)
            code = service.wait(60)
        finally:
            service.kill()
    if code != 0:
        raise SystemExit(f"the service ended with {code}")
    sys.stdout.write(f"{model.name}: {answer!r}\n")


def ready_url(service: "subprocess.Popen[str]") -> str:
    """Where the service listens, from its log."""
    assert service.stderr is not None, "a pipe was asked for"
    lines = []
    for line in service.stderr:
        lines.append(line)
        if "ready: " in line:
            return line.partition("ready: ")[2].split()[0]
    raise SystemExit("the service did not start:\n" + "".join(lines))


def generate(url: str) -> str:
    """A few tokens of text."""
    body = json.dumps({"text": "The sea is", "strategy": "greedy", "max_new_tokens": 8}).encode()
    request = urllib.request.Request(
        f"{url}/generate", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        text: str = response.read().decode()
    return text[:200]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
