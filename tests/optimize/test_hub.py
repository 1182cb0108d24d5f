"""A hub model is fetched from a hub (a small one, run here), safetensors only, and kept."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from optimize.check import check_model
from optimize.errors import HubUnavailable, InvalidModelFolder, SourceNotFound
from optimize.prepare import prepare_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "someone/tiny-llama"


class Hub(BaseHTTPRequestHandler):
    """The three calls of the hub's interface that a download needs."""

    def __init__(self, folder: Path, requested: list[str], *args) -> None:
        self.folder, self.requested = folder, requested
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path in {f"/api/models/{MODEL}/revision/main", f"/api/models/{MODEL}/revision/{COMMIT}"}:
            self._answer({"id": MODEL, "sha": COMMIT, "siblings": []})
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            self._answer([self._entry(file) for file in sorted(self.folder.iterdir())])
        elif path.startswith(f"/{MODEL}/resolve/{COMMIT}/"):
            self._send_file(self.folder / Path(path).name)
        else:
            is_known = path.startswith(f"/api/models/{MODEL}/")
            code = "RevisionNotFound" if is_known else "RepoNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_args) -> None:
        """Say nothing."""

    def _entry(self, file: Path) -> dict[str, object]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, file: Path) -> None:
        body = file.read_bytes()
        self.requested.append(file.name)
        self.send_response(200)
        self.send_header("ETag", f'"{file.name}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def requested() -> list[str]:
    """The files that were asked for."""
    return []


@pytest.fixture
def hub(model_folder, requested, tmp_path, monkeypatch) -> Iterator[Path]:
    """A hub with one model; gives the folder it serves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, model_folder, requested))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    point_client_at(address, tmp_path / "hub", monkeypatch)
    try:
        yield model_folder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        huggingface_hub.close_session()


def point_client_at(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)


def test_model_is_fetched_loaded_and_named_by_its_commit(hub, spec_of, requested):
    (hub / "pytorch_model.bin").write_bytes(b"pickle")
    (hub / "own.py").write_text("raise SystemExit")
    reports = []
    prepared = prepare_model(
        spec_of(MODEL), progress=lambda stage, fraction: reports.append((stage, fraction))
    )
    assert prepared.name == MODEL
    assert prepared.revision == COMMIT
    assert prepared.context_length == 128
    assert ("downloading", 1.0) in reports
    assert "model.safetensors" in requested
    assert not {"pytorch_model.bin", "own.py"} & set(requested)


@pytest.mark.usefixtures("hub")
def test_check_fetches_no_weights(spec_of, requested):
    check_model(spec_of(MODEL))
    assert "config.json" in requested
    assert "model.safetensors" not in requested


@pytest.mark.usefixtures("hub")
def test_fetched_model_is_served_without_a_network(spec_of, tmp_path, monkeypatch):
    prepare_model(spec_of(MODEL))
    point_client_at("http://127.0.0.1:9", tmp_path / "hub", monkeypatch)
    assert prepare_model(spec_of(MODEL)).revision == COMMIT


@pytest.mark.usefixtures("hub")
def test_unknown_model_is_not_found(spec_of):
    with pytest.raises(SourceNotFound, match="the hub has no such model"):
        check_model(spec_of("someone/else"))


@pytest.mark.usefixtures("hub")
def test_unknown_revision_is_not_found(spec_of):
    with pytest.raises(SourceNotFound, match="no revision 'v9'"):
        check_model(spec_of(MODEL, revision="v9"))


def test_model_without_safetensors_is_refused(hub, spec_of):
    (hub / "model.safetensors").unlink()
    with pytest.raises(InvalidModelFolder, match="no safetensors weights on the hub"):
        prepare_model(spec_of(MODEL))


def test_unreachable_hub_says_what_to_do(spec_of, tmp_path, monkeypatch):
    point_client_at("http://127.0.0.1:9", tmp_path / "hub", monkeypatch)
    with pytest.raises(HubUnavailable, match="give a local folder"):
        check_model(spec_of(MODEL))
    huggingface_hub.close_session()
