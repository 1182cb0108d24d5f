"""Settings come from the environment and from overrides, and refuse what they do not know."""

import os
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings
from engine.config import EngineConfig


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("BEAMLINE_"):
            monkeypatch.delenv(name)


def test_defaults_narrow_to_the_engines_own_defaults():
    config = load_settings().engine_config
    assert config == EngineConfig(num_threads=config.num_threads)


def test_default_spec_is_the_embedded_model_without_remote_code():
    spec = load_settings().model_spec
    assert spec.source is None
    assert spec.trust_remote_code is False
    assert spec.cache_folder.is_absolute()


def test_environment_sets_a_field(monkeypatch):
    monkeypatch.setenv("BEAMLINE_MAX_ROWS", "7")
    assert load_settings().engine_config.max_rows == 7


def test_override_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("BEAMLINE_PORT", "1234")
    assert load_settings({"port": 4321}).port == 4321


def test_empty_variable_means_the_default(monkeypatch):
    monkeypatch.setenv("BEAMLINE_MODEL", "")
    assert load_settings().model is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "folder"),
        ("revision", "main"),
        ("device", "cuda:1"),
        ("dtype", "bfloat16"),
        ("trust_remote_code", True),
        ("cache_folder", Path("/somewhere")),
    ],
)
def test_model_settings_reach_the_model_spec(field, value):
    spec = load_settings({field: value}).model_spec
    assert getattr(spec, "source" if field == "model" else field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_rows", 3),
        ("max_step_tokens", 99),
        ("max_waiting_requests", 5),
        ("block_size", 8),
        ("kv_cache_bytes", 2**22),
    ],
)
def test_engine_settings_reach_the_engine_config(field, value):
    assert getattr(load_settings({field: value}).engine_config, field) == value


def test_misspelt_variable_is_refused_with_the_name_that_was_meant(monkeypatch):
    monkeypatch.setenv("BEAMLINE_MAX_ROW", "7")
    with pytest.raises(SettingsError, match=r"BEAMLINE_MAX_ROW is not.*mean BEAMLINE_MAX_ROWS"):
        load_settings()


def test_service_link_of_kubernetes_is_refused_with_its_remedy(monkeypatch):
    monkeypatch.setenv("BEAMLINE_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match="enableServiceLinks"):
        load_settings()


def test_unknown_override_is_refused():
    with pytest.raises(SettingsError, match="prot"):
        load_settings({"prot": 1})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PORT", "99999", "--port.*BEAMLINE_PORT.*65535"),
        ("MAX_ROWS", "0", "--max-rows.*greater than or equal to 1"),
        ("DTYPE", "int8", "--dtype.*'float32'"),
        ("GRACE_SECONDS", "nan", "--grace-seconds"),
        ("STALL_SECONDS", "inf", "--stall-seconds"),
        ("KV_CACHE_BYTES", "12", "--kv-cache-bytes"),
    ],
)
def test_bad_value_names_option_and_variable(monkeypatch, name, value, problem):
    monkeypatch.setenv(f"BEAMLINE_{name}", value)
    with pytest.raises(SettingsError, match=problem):
        load_settings()


def test_lists_come_with_commas_in_between(monkeypatch):
    monkeypatch.setenv("BEAMLINE_CORS_ORIGINS", "https://a.example, http://b:8080")
    monkeypatch.setenv("BEAMLINE_API_KEYS", "first-key-of-ours,second-key-of-ours")
    settings = load_settings()
    assert settings.cors_origins == ("https://a.example", "http://b:8080")
    secrets = [key.get_secret_value() for key in settings.api_keys]
    assert secrets == ["first-key-of-ours", "second-key-of-ours"]


def test_secrets_are_shown_nowhere(monkeypatch):
    monkeypatch.setenv("BEAMLINE_API_KEYS", "first-key-of-ours")
    assert "first-key" not in repr(load_settings())
    monkeypatch.setenv("BEAMLINE_API_KEYS", "too-short")
    with pytest.raises(SettingsError, match="BEAMLINE_API_KEYS: a key has 16") as caught:
        load_settings()
    assert "too-short" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"cors_origins": "https://a.example/path"}, "--cors-origins.*without a path"),
        ({"rate_limit_redis": "localhost:6379"}, "--rate-limit-redis.*redis://host"),
        ({"tokens_per_minute": 5}, "tokens_per_minute counts by API key, and there are none"),
        ({"tls_key": "key.pem"}, "tls_key has no effect without tls_cert"),
        ({"cache_redis": "localhost:6379"}, "--cache-redis.*redis://host"),
        ({"cache_redis": "redis://"}, "--cache-redis.*redis://host"),
        ({"cache_redis": "redis://a:port"}, "--cache-redis.*redis://host"),
        ({"cache_redis": "redis://a/first"}, "--cache-redis.*redis://host"),
        ({"cache_redis": "redis://a?ssl_ca_cert=x"}, "'ssl_ca_cert' is no option.*ssl_ca_certs"),
        (
            {"cache_redis_ttl_seconds": 5},
            "cache_redis_ttl_seconds has no effect without",
        ),
        ({"cache_redis": "redis://a", "cache_redis_prefix": "a b"}, "--cache-redis-prefix"),
        ({"cache_redis": "redis://a", "cache_redis_timeout_seconds": 0}, "--cache-redis-timeout"),
        ({"cache_redis": "redis://a", "cache_redis_secret": "short"}, "at least 32 characters"),
        ({"cache_across_keys": True}, "cache_across_keys has no effect without API keys"),
        ({"max_texts": 129}, "--max-texts"),
    ],
)
def test_what_would_have_no_effect_is_refused(given, problem):
    with pytest.raises(SettingsError, match=problem):
        load_settings(given)


def test_several_mistakes_are_told_together(monkeypatch):
    monkeypatch.setenv("BEAMLINE_PORT", "-1")
    monkeypatch.setenv("BEAMLINE_MAX_ROWS", "many")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert len(str(caught.value).splitlines()) == 2


def test_more_rows_than_a_step_computes_is_refused():
    with pytest.raises(SettingsError, match=r"max_rows \(600\).*max_step_tokens \(512\)"):
        load_settings({"max_rows": 600})


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_every_setting_says_what_it_is():
    assert all(field.description for field in Settings.model_fields.values())


def test_a_draft_model_is_loaded_as_its_own_service_would_load_it():
    settings = load_settings(
        {
            "model": "large",
            "draft_model": "small",
            "draft_revision": "v2",
            "runtime": "torch",
            "weights": "fp32",
            "device": "cpu",
            "cache_folder": "/tmp/x",
        }
    )
    draft = settings.draft_settings
    assert draft.model_spec.source == "small"
    assert draft.model_spec.revision == "v2"
    assert (draft.runtime, draft.weights, draft.device) == ("auto", None, "cpu")
    assert draft.cache_folder == settings.cache_folder
    assert draft.draft_settings is None
    assert load_settings().draft_settings is None


@pytest.mark.parametrize(
    ("given", "guesses"),
    [
        ({}, 0),
        ({"draft_model": "small"}, 4),
        ({"draft_model": "small", "num_speculative_tokens": 0}, 0),
        ({"draft_model": "small", "num_speculative_tokens": 7}, 7),
    ],
)
def test_guesses_for_requests_that_do_not_say(given, guesses):
    assert load_settings(given).default_guesses == guesses


@pytest.mark.parametrize("option", [{"draft_revision": "v2"}, {"num_speculative_tokens": 3}])
def test_an_option_of_a_draft_model_that_is_not_there_is_refused(option):
    with pytest.raises(SettingsError, match=r"is of no use without draft_model"):
        load_settings(option)


def test_a_wrong_address_is_not_shown_with_its_password(monkeypatch):
    monkeypatch.setenv("BEAMLINE_RATE_LIMIT_REDIS", "http://:secret-word@host/0")
    with pytest.raises(SettingsError, match="--rate-limit-redis") as caught:
        load_settings()
    assert "secret-word" not in str(caught.value)


def test_a_folder_of_operators_has_to_exist(tmp_path):
    assert load_settings({"operators_folder": str(tmp_path)}).operators_folder == tmp_path
    with pytest.raises(SettingsError, match=r"--operators-folder .*beamline operators"):
        load_settings({"operators_folder": str(tmp_path / "none")})


@pytest.mark.parametrize("name", ["cache_redis", "rate_limit_redis"])
def test_password_of_a_redis_is_in_no_message(name):
    with pytest.raises(SettingsError, match="redis://host") as caught:
        load_settings({name: "redis://:swordfish@host:port", "api_keys": "first-key-of-ours"})
    assert "swordfish" not in str(caught.value)


def test_secret_of_the_shared_cache_is_in_no_message():
    with pytest.raises(SettingsError, match="BEAMLINE_CACHE_REDIS_SECRET") as caught:
        load_settings({"cache_redis": "redis://a", "cache_redis_secret": "swordfish"})
    assert "swordfish" not in str(caught.value)
