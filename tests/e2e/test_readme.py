"""Every block of code in the README runs as it stands there and prints what it says it will.

Addresses and paths are those of the test's own server; `$ make` lines must be targets of the
Makefile, which the tests themselves have come through.
"""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import server_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PRINTS = {  # a word of the block, and what its output must match
    "num_beams": r"\S",
    "max_tokens=30": r"\S",
    "stream=True": r"\S",
    "InferenceClient": r"\S",
    "api_keys": r'"missing_api_key".*"object":\s*"list"',
    "curl -s http://127.0.0.1:8000/generate": r'"generated_text":\s*"The capital of France is',
}


@pytest.mark.parametrize("at", range(len(BLOCKS)))
def test_a_block_of_the_readme_does_what_it_says(at, chat_url, chat_model_folder, service_cache):
    language, code = BLOCKS[at]
    code = code.replace("http://127.0.0.1:8000", chat_url).replace("8001", str(free_port()))
    code = code.replace(".venv/bin/beamline", str(Path(sys.executable).parent / "beamline"))
    command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
    # The client of Hugging Face talks to nobody while its hub is to be left alone.
    environment = {"HF_HUB_OFFLINE": "0"} if language == "python" else {}
    environment = server_environment(
        **environment,
        BEAMLINE_CACHE_FOLDER=str(service_cache),
        BEAMLINE_MODEL=str(chat_model_folder),
    )
    done = subprocess.run(
        [*command, code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = [
        pattern for word, pattern in PRINTS.items() if word.lower() in BLOCKS[at][1].lower()
    ]
    assert expected, "say what the block prints"
    for pattern in expected:
        assert re.search(pattern, done.stdout, re.DOTALL), done.stdout


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_there_are_blocks_for_all_that_the_readme_promises():
    assert [language for language, _ in BLOCKS].count("python") >= 4
    assert [language for language, _ in BLOCKS].count("bash") >= 2


def test_the_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^\$ make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= targets
