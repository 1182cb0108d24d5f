"""The real package `litellm` against a real server process.

It pins versions of its own, so it lives in an environment that `make clients` makes.
"""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="needs `make clients`")
def test_litellm_completes_streams_and_passes_strategies_on(chat_url):
    url = f"{chat_url}/v1"
    (card,) = httpx.get(f"{url}/models").json()["data"]
    script = Path(__file__).with_name("litellm_calls.py")
    done = subprocess.run(
        [PYTHON, script, url, card["id"]],
        check=True,
        capture_output=True,
        text=True,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["num_tokens"] == 6
    assert said["text"] == said["streamed"] != ""
    assert len(set(said["beams"])) == 2
    assert "num_beams" in said["refusal"]
