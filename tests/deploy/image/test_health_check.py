"""The image's health check, run as an engine would: well when ready, ill when nobody is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import (  # noqa: F401  fixtures
    run,
    service_cache,
    start,
    tiny_model_folder,
)

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile"


@pytest.fixture(scope="module")
def check():
    """Runs the command for a port; its Python is the tests' instead of the image's."""
    text = DOCKERFILE.read_text()
    command = json.loads(re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", text, re.MULTILINE)[1])
    assert command[0] == "/opt/beamline/bin/python"

    def run_check(port, **environment):
        given = {"BEAMLINE_PORT": str(port), **environment}
        answer = subprocess.run([sys.executable, *command[1:]], env=given, capture_output=True)
        return answer.returncode

    return run_check


def test_a_service_is_healthy_while_it_is_ready(start, check):  # noqa: F811
    server = start()
    port = server.ready_url().rpartition(":")[2]
    assert check(port) == 0
    assert check(port, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9") == 0
    server.close()
    assert check(port) != 0
