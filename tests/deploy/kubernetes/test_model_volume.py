"""What the init container leaves in the volume, the service finds and serves without the hub.

The hub's part is played by its client's own cache, which holds a tiny model at the manifest's
commit.
"""

import pytest

from tests.deploy.kubernetes.rendering import container_of, overlay, pod_of, settings_of
from tests.e2e.conftest import ServerProcess, beamline, server_environment
from tests.engine.exports import save_tiny_llama


@pytest.fixture
def volume(tmp_path):
    """The cache folder of pods, after the download."""
    settings = settings_of(overlay("production"))
    repository = "models--" + settings["BEAMLINE_MODEL"].replace("/", "--")
    revision = settings["BEAMLINE_REVISION"]
    snapshots = tmp_path / "huggingface" / "hub" / repository / "snapshots"
    save_tiny_llama(snapshots / revision)
    return tmp_path


@pytest.fixture
def start(volume):
    """Runs a container of the production overlay, with its variables, in this volume."""
    started = []
    settings = settings_of(overlay("production"))

    def run(container) -> ServerProcess:
        variables = {each["name"]: each["value"] for each in container["env"]}
        mounted = settings["BEAMLINE_CACHE_FOLDER"]
        variables = {
            name: value.replace(mounted, str(volume))
            for name, value in (settings | variables).items()
        }
        variables |= {
            "HF_HUB_OFFLINE": "1",  # tests never ask the real hub
            "HOME": str(volume),
            "BEAMLINE_HOST": "127.0.0.1",
            "BEAMLINE_PORT": "0",
            "BEAMLINE_LOG_FORMAT": "text",  # whose line says where it listens
            "BEAMLINE_NATIVE": "false",  # compiling operators takes half a minute
        }
        started.append(ServerProcess(beamline(*container["args"]), server_environment(**variables)))
        return started[-1]

    yield run
    for process in started:
        process.close()


def test_the_service_serves_offline_what_the_init_container_prepared(start, volume, monkeypatch):
    fetch, serve = (
        *pod_of(overlay("production"))["initContainers"],
        container_of(overlay("production")),
    )
    preparing = start(fetch)
    assert preparing.wait() == 0, preparing.output
    assert "\nmade " in preparing.output
    assert "is ready: w8a8 on onnx" in preparing.output
    made = {path for path in (volume / "onnx").rglob("*") if path.is_file()}
    again = start(fetch)
    assert again.wait() == 0
    assert "\nmade " not in again.output
    # The keys' file is the container's own; an empty list of keys locks everybody out.
    keys = volume / "keys.json"
    monkeypatch.setitem(settings_of(overlay("production")), "BEAMLINE_KEYS_FILE", str(keys))
    assert start({"args": ["keys", "add", "alice", "--file", str(keys)], "env": []}).wait() == 0
    server = start(serve)
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/generate", json={"text": "The sea"}).status_code == 401
        assert client.get("/health").json()["model"]["runtime"] == "onnx"
        assert client.get("/metrics").status_code == 200
    assert {path for path in (volume / "onnx").rglob("*") if path.is_file()} == made
