"""The real kubectl and helm, the service's routes, and a live server with its metrics."""

import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.settings import Settings
from tests.deploy.kubernetes.chart import HELM
from tests.deploy.kubernetes.rendering import KUBECTL
from tests.e2e.conftest import (
    ServerProcess,
    beamline,
    build_tokenizer,
    save_tiny_model,
    serve_tiny,
    server_environment,
)


@pytest.fixture(scope="session", autouse=True)
def tools() -> tuple[Path, ...]:
    """The binaries that render; they are for Linux on x86-64."""
    for command in ([KUBECTL, "version", "--client"], [HELM, "version"]):
        try:
            subprocess.run(command, capture_output=True, check=True)
        except OSError as error:
            pytest.skip(f"needs `make k8s-tools` ({error})")
    return KUBECTL, HELM


@pytest.fixture(scope="session")
def routes(tmp_path_factory) -> set[str]:
    """Paths that answer GET."""
    document = create_app(Settings(cache_folder=tmp_path_factory.mktemp("cache"))).openapi()
    return {path for path, methods in document["paths"].items() if "get" in methods}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder, build_tokenizer())
    return folder


@pytest.fixture(scope="session")
def live_families(model_folder, tmp_path_factory) -> dict:
    """What a real server shows on /metrics, by name, vLLM's names included."""
    cache = str(tmp_path_factory.mktemp("cache"))
    options = ("--runtime", "torch", "--metrics-compat", "vllm")
    command = beamline(*serve_tiny(model_folder), *options)
    server = ServerProcess(command, server_environment(BEAMLINE_CACHE_FOLDER=cache))
    try:
        text = httpx.get(server.ready_url() + "/metrics").text
    finally:
        server.close()
    return {family.name: family for family in text_string_to_metric_families(text)}
