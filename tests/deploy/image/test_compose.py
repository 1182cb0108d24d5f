"""docker-compose.yml: by its schema, and agreeing with image, service and repository."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[3]
MAIN = ROOT / "docker-compose.yml"
KEYS = ROOT / "deploy" / "compose" / "keys.yml"
SCHEMA_CHECK = Path(sys.executable).with_name("check-jsonschema")
SERVICES = ("api", "api-gpu")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(MAIN.read_text())


@pytest.fixture(scope="module")
def keys():
    return yaml.safe_load(KEYS.read_text())


def check_schema(file):
    command = [SCHEMA_CHECK, "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def by_default(value):
    """With no variable set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value))


@pytest.mark.parametrize("file", [MAIN, KEYS])
def test_it_follows_the_specification(file):
    answer = check_schema(file)
    assert answer.returncode == 0, answer.stdout


def test_a_mistake_would_be_found(tmp_path):
    (tmp_path / "compose.yml").write_text(MAIN.read_text().replace("read_only:", "readonly:"))
    answer = check_schema(tmp_path / "compose.yml")
    assert answer.returncode != 0
    assert "readonly" in answer.stdout


def test_every_variable_is_a_setting_that_takes_its_value(compose, keys, monkeypatch):
    for file in (compose, keys):
        for name in SERVICES:
            given = file["services"][name]["environment"]
            ours = {k: by_default(v) for k, v in given.items() if k.startswith("BEAMLINE_")}
            assert ours
            for variable, value in ours.items():
                monkeypatch.setenv(variable, value)
            assert {k[len("BEAMLINE_") :].lower() for k in ours} <= set(Settings.model_fields)
    settings = Settings()  # the second file on top of the first
    assert settings.has_keys
    assert settings.rate_limit_redis == "redis://limits:6379/0"
    assert settings.public_metrics


def test_counters_are_not_where_answers_are_evicted(compose, keys):
    for name in SERVICES:
        cache = urlsplit(compose["services"][name]["environment"]["BEAMLINE_CACHE_REDIS"])
        limits = urlsplit(keys["services"][name]["environment"]["BEAMLINE_RATE_LIMIT_REDIS"])
        assert cache.hostname in compose["services"]
        assert limits.hostname in keys["services"]
        assert limits.hostname in keys["services"][name]["depends_on"]
        assert cache.hostname != limits.hostname


def test_what_env_example_names_is_read():
    named = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    read = set(re.findall(r"\$\{([A-Z_]+)", MAIN.read_text() + KEYS.read_text()))
    assert named == read


def test_ports_are_those_that_are_listened_on_and_for_this_machine_only(compose):
    published = {n: s["ports"] for n, s in compose["services"].items() if "ports" in s}
    assert set(published) == {*SERVICES, "prometheus", "grafana"}
    for name, ports in published.items():
        (port,) = map(by_default, ports)
        assert port.startswith("127.0.0.1:")
        if name in SERVICES:
            assert port.endswith(f":{Settings.model_fields['port'].default}")


def test_what_is_mounted_from_here_is_there(compose):
    """But for the folder of models, which its user makes."""
    mounted = [v for s in compose["services"].values() for v in s.get("volumes", ())]
    paths = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_dashboards_are_where_grafana_is_told_to_look(compose):
    folder = ROOT / "monitoring/grafana/provisioning/dashboards"
    told = [yaml.safe_load(file.read_text()) for file in folder.glob("*.y*ml")]
    paths = {each["options"]["path"] for file in told for each in file["providers"]}
    mounted = [volume.split(":") for volume in compose["services"]["grafana"]["volumes"]]
    assert paths == {
        to for source, to, *_ in mounted if source == "./monitoring/grafana/dashboards"
    }


def test_prometheus_finds_the_service_by_its_name(compose):
    jobs = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    targets = {t for job in jobs for each in job["static_configs"] for t in each["targets"]}
    assert f"api:{Settings.model_fields['port'].default}" in targets
    for name in SERVICES:
        assert "api" in compose["services"][name]["networks"]["default"]["aliases"]


def test_named_volumes_are_declared_and_used(compose):
    mounted = [v for s in compose["services"].values() for v in s.get("volumes", ())]
    named = {v.split(":")[0] for v in mounted if re.match(r"[a-z]", v)}
    assert named == set(compose["volumes"])


def test_the_cache_is_where_the_image_has_it(compose):
    cache = re.search(r"BEAMLINE_CACHE_FOLDER=(\S+)", (ROOT / "Dockerfile").read_text())[1]
    for name in SERVICES:
        assert any(v.endswith(f":{cache}") for v in compose["services"][name]["volumes"])


def test_the_model_is_where_the_image_has_it(compose):
    text = (ROOT / "Dockerfile").read_text()
    name = re.search(r"ARG MODEL_NAME=(\S+)", text)[1]
    assert f"/opt/models/{name}" == by_default(
        compose["services"]["api"]["environment"]["BEAMLINE_MODEL"]
    )


def test_every_container_is_closed_down(compose, keys):
    added = {name: keys["services"][name] for name in keys["services"].keys() - {*SERVICES}}
    assert added
    for name, service in (compose["services"] | added).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if name not in SERVICES:  # theirs is the image's
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), name


def test_stopping_waits_longer_than_the_service_does(compose):
    for name in SERVICES:
        service = compose["services"][name]
        grace = float(service["environment"]["BEAMLINE_GRACE_SECONDS"])
        assert float(service["stop_grace_period"].removesuffix("s")) >= grace + 10


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
@pytest.mark.parametrize(
    ("file", "name", "policy"), [(MAIN, "redis", "allkeys-lru"), (KEYS, "limits", "noeviction")]
)
def test_redis_takes_its_options(file, name, policy, tmp_path):
    service = yaml.safe_load(file.read_text())["services"][name]
    socket = tmp_path / "socket"
    command = [*service["command"], "--port", "0", "--unixsocket", str(socket)]
    redis = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        next(line for line in redis.stdout if "accept connections" in line)
        ask = ["redis-cli", "-s", str(socket)]
        answer = subprocess.run([*ask, *service["healthcheck"]["test"][2:]], capture_output=True)
        assert answer.stdout == b"PONG\n"
        get = [*ask, "--json", "config", "get", "maxmemory*"]
        told = json.loads(subprocess.run(get, capture_output=True, check=True).stdout)
        assert told["maxmemory-policy"] == policy
        limit = service["deploy"]["resources"]["limits"]["memory"]
        assert 0 < int(told["maxmemory"]) <= int(limit.removesuffix("m")) * 2**20 / 2
    finally:
        redis.kill()
        redis.communicate()
