"""Whatever the manifests set is a setting of the service, with a value that it takes."""

from base64 import b64decode

import pytest
import typer.main

from app.cli import app
from app.settings import Settings, load_settings
from tests.deploy.kubernetes.rendering import (
    COMPONENT_NAMES,
    OVERLAY_NAMES,
    container_of,
    of_kind,
    overlay,
    pod_of,
    settings_of,
    with_components,
)


def load(monkeypatch, resources) -> Settings:
    """The settings that the service gets from its ConfigMap and from Secrets in the manifests."""
    variables = dict(settings_of(resources))
    for secret in of_kind(resources, "Secret"):
        decoded = {name: b64decode(value).decode() for name, value in secret["data"].items()}
        variables |= decoded
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()  # refuses unknown variables and wrong values


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_settings_of_an_overlay_load(name, monkeypatch):
    settings = load(monkeypatch, overlay(name))
    assert settings.has_keys
    assert settings.host == "0.0.0.0"
    assert settings.log_format == ("text" if name == "dev" else "json")


@pytest.mark.parametrize("name", COMPONENT_NAMES)
def test_settings_of_a_component_load(name, monkeypatch, tmp_path):
    assert load(monkeypatch, with_components(tmp_path, "dev", [name])).has_keys


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_no_pod_starts_without_its_keys(name):
    sources = container_of(overlay(name))["envFrom"]
    volumes = pod_of(overlay(name))["volumes"]
    secrets = [each["secretRef"] for each in sources if "secretRef" in each]
    secrets += [each["secret"] for each in volumes if "secret" in each]
    assert len(secrets) == 1
    assert not any(each.get("optional") for each in secrets)


def test_commands_of_the_containers_are_commands_of_ours():
    group = typer.main.get_command(app)
    for name in OVERLAY_NAMES:
        command = group
        for argument in container_of(overlay(name))["args"]:
            command = command.commands[argument]
        assert command is not group
