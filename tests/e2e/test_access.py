"""A real server behind TLS and keys: what it refuses, and keys that come and go while it runs."""

import ssl
import subprocess
import threading

import httpx
import pytest
import trustme

from tests.e2e.conftest import beamline, server_environment

BODY = {"text": "The sea", "strategy": "greedy", "max_new_tokens": 3}


@pytest.fixture
def keys(tmp_path):
    """Runs `beamline keys`; gives what it prints to stdout."""

    def keys(*arguments):
        environment = server_environment(BEAMLINE_KEYS_FILE=str(tmp_path / "keys.json"))
        return subprocess.run(
            beamline("keys", *arguments),
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    return keys


def post(client, secret=None):
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return client.post("/generate", json=BODY, headers=headers)


def wait_for(client, secret, status):
    """Ask until the server has noticed that the keys changed; a vain wait times out."""
    pause = threading.Event()
    while post(client, secret).status_code != status:
        pause.wait(0.05)


def test_server_speaks_tls_and_follows_its_keys(start, keys, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    first = keys("add", "alice")
    server = start(
        *("--keys-file", str(tmp_path / "keys.json"), "--tls-cert", str(tmp_path / "server.pem"))
    )
    url = server.ready_url()
    assert url.startswith("https://")

    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with httpx.Client(base_url=url, verify=trusting, timeout=60.0) as client:
        assert client.get("/livez").status_code == 200
        assert post(client).status_code == 401
        assert post(client, first).json()["generated_text"].startswith("The sea")
        second = keys("add", "bob")
        wait_for(client, second, 200)
        keys("revoke", "alice")
        wait_for(client, first, 401)
        assert post(client, second).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{url}/livez")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/livez".replace("https", "http"))

    assert " key=alice" in server.output
    assert " key=bob" in server.output
    assert first not in server.output
    assert second not in server.output


def test_server_does_not_start_without_the_keys_it_was_told_of(run, tmp_path):
    server = run(beamline("serve", "--port", "0", "--keys-file", str(tmp_path / "none.json")))
    assert server.wait() == 1
    assert "none.json" in server.output
    assert "beamline keys add" in server.output.replace("\n", " ")
