"""Keys are random, kept as hashes only, and found by their secret alone."""

import hashlib

from app.access.keys import ApiKey, Keyring, RateLimits, digest_of, new_secret
from app.access.scopes import Scope


def key_of(secret, name="one"):
    return ApiKey(
        name=name,
        digest=digest_of(secret.encode()),
        scopes=frozenset({Scope.GENERATE}),
        limits=RateLimits(),
    )


def test_new_keys_differ_and_hold_256_random_bits():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith("sk-beamline-") and len(secret) == 55 for secret in secrets)


def test_key_is_found_by_its_secret_and_by_nothing_near_it():
    secret = new_secret()
    keyring = Keyring([key_of(secret), key_of(new_secret(), "other")])
    assert keyring.find(secret.encode()).name == "one"
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "é\xff"):
        assert keyring.find(wrong.encode("latin-1")) is None


def test_hash_does_not_open_the_door():
    secret = new_secret()
    key = key_of(secret)
    keyring = Keyring([key])
    assert keyring.find(key.digest) is None
    assert keyring.find(key.digest.hex().encode()) is None


def test_key_knows_the_sha256_of_its_secret_and_not_the_secret():
    secret = new_secret()
    key = key_of(secret)
    assert key.digest == hashlib.sha256(secret.encode()).digest()
    assert secret not in repr(key)
