import importlib

import pytest
from pydantic import SecretStr, ValidationError

from app.settings import Settings, SettingsError
from deploy.ray.arguments import SECRET, Arguments

# Ray's models are written for an older Pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def build():
    return importlib.import_module("deploy.ray.application").build_application


def secret_settings():
    fields = Settings.model_fields.items()
    return {name for name, field in fields if SecretStr.__name__ in str(field.annotation)}


@pytest.mark.parametrize("name", sorted(secret_settings()))
def test_a_secret_is_refused_and_not_repeated(name):
    with pytest.raises(ValidationError, match=name) as caught:
        Arguments(settings={name: "sk-0123456789abcdef"})
    assert "sk-0123456789abcdef" not in str(caught.value)


def test_all_secrets_are_known():
    assert secret_settings() >= SECRET
    assert {"api_keys", "admin_api_keys", "cache_redis_secret"} <= secret_settings()


def test_a_url_with_a_password_is_a_secret():
    with pytest.raises(ValidationError, match="BEAMLINE_CACHE_REDIS in the environment"):
        Arguments(settings={"cache_redis": "redis://:hush@host:6379/0"})
    Arguments(settings={"cache_redis": "redis://host:6379/0"})


@pytest.mark.parametrize("name", ["host", "port", "tls_cert", "tls_key", "tls_client_ca"])
def test_what_would_have_no_effect_is_refused_by_name(name):
    with pytest.raises(ValidationError, match=f"{name} has no effect"):
        Arguments(settings={name: "x"})


def test_tls_from_the_environment_is_refused(build, monkeypatch, tmp_path):
    monkeypatch.setenv("BEAMLINE_TLS_CERT", str(tmp_path / "cert.pem"))
    with pytest.raises(SettingsError, match="tls_cert has no effect"):
        build(Arguments())


def test_never_more_at_least_than_at_most():
    with pytest.raises(ValidationError, match="max_replicas"):
        Arguments(min_replicas=3, max_replicas=2)


def test_a_replica_that_hangs_is_replaced_after_as_long_as_liveness_allows(build):
    app = build(Arguments(settings={"stall_seconds": 60.0}))
    replicas = app._bound_deployment.init_args[0]._bound_deployment
    options = replicas._deployment_config
    assert options.health_check_timeout_s * 3 == 60.0
