"""Certificates that cannot be used are told before anything is loaded."""

import ssl

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from app.process.tls import TlsError, build_tls_context
from app.settings import Settings


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """Paths of a certificate, its key, the same key under a password, another's key, and the CA."""
    names = ("cert", "key", "locked", "other", "ca")
    paths = {name: tmp_path / f"{name}.pem" for name in names}
    mine, other = (authority.issue_cert("127.0.0.1") for _ in range(2))
    mine.cert_chain_pems[0].write_to_path(paths["cert"])
    mine.private_key_pem.write_to_path(paths["key"])
    other.private_key_pem.write_to_path(paths["other"])
    authority.cert_pem.write_to_path(paths["ca"])
    key = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    paths["locked"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    return paths


def test_without_a_certificate_there_is_no_context():
    assert build_tls_context(Settings()) is None


def test_context_speaks_tls_1_2_at_least_and_asks_no_client_for_a_certificate(files):
    context = build_tls_context(Settings(tls_cert=files["cert"], tls_key=files["key"]))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


def test_client_authority_makes_certificates_of_clients_required(files):
    settings = Settings(tls_cert=files["cert"], tls_key=files["key"], tls_client_ca=files["ca"])
    assert build_tls_context(settings).verify_mode is ssl.CERT_REQUIRED


def test_password_opens_the_key(files):
    given = {"tls_cert": files["cert"], "tls_key": files["locked"]}
    assert build_tls_context(Settings(tls_key_password="open sesame", **given)) is not None
    for wrong in ({}, {"tls_key_password": "guess"}):
        with pytest.raises(TlsError, match=r"locked\.pem"):
            build_tls_context(Settings(**wrong, **given))


def test_unusable_files_are_named(files, tmp_path):
    with pytest.raises(TlsError, match=r"none\.pem.*No such file"):
        build_tls_context(Settings(tls_cert=tmp_path / "none.pem"))
    with pytest.raises(TlsError, match=r"other\.pem.*mismatch"):
        build_tls_context(Settings(tls_cert=files["cert"], tls_key=files["other"]))
    with pytest.raises(TlsError, match=r"key\.pem to check clients"):
        build_tls_context(
            Settings(tls_cert=files["cert"], tls_key=files["key"], tls_client_ca=files["key"])
        )
