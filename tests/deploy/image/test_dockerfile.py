"""The Dockerfile: hadolint finds nothing, and what it says agrees with the service and the project.

That its commands can be executed is shown by `make image-run`, which takes minutes.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from app.settings import Settings

ROOT = Path(__file__).parents[3]
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory):
    """A copy, since the parser writes where it reads."""
    copy = tmp_path_factory.mktemp("image") / "Dockerfile"
    shutil.copy(ROOT / "Dockerfile", copy)
    return DockerfileParser(str(copy))


@pytest.fixture(scope="module")
def stages(dockerfile):
    """The instructions of each stage, by its name and in order."""
    found = {}
    for each in dockerfile.structure:
        if each["instruction"] == "FROM":
            found[each["value"].split()[-1]] = current = []
            current.append(each)
        elif found:
            current.append(each)
    return found


def values(stage, instruction):
    return [each["value"] for each in stage if each["instruction"] == instruction]


def hadolint(file):
    return subprocess.run([HADOLINT, file], capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing():
    answer = hadolint(ROOT / "Dockerfile")
    assert answer.returncode == 0, answer.stdout


def test_hadolint_would_find_something(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\nRUN apt-get install curl\n")
    answer = hadolint(tmp_path / "Dockerfile")
    assert answer.returncode != 0
    assert "DL3007" in answer.stdout


def test_the_cpu_is_the_default(stages):
    assert list(stages)[-1] == "cpu"
    assert "cuda" in stages


def test_the_base_is_pinned(dockerfile):
    (base,) = (v for v in values(dockerfile.structure, "ARG") if v.startswith("DEBIAN="))
    assert re.search(r":\d+\.\d+-slim$|@sha256:[0-9a-f]{64}$", base)


def test_only_stages_of_ours_are_copied_from(stages, dockerfile):
    for copied in values(dockerfile.structure, "COPY"):
        source = re.search(r"--from=(\S+)", copied)
        assert source is None or source[1] in stages


def test_every_variable_is_a_setting(dockerfile):
    text = dockerfile.content
    named = set(re.findall(r"\bBEAMLINE_([A-Z_]+)", text))
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_both_services_run_as_a_number_without_a_shell(stages):
    for name in ("cpu", "cuda"):
        assert values(stages[name], "FROM")[0].split()[0] == "service"
        assert not values(stages[name], "USER")
    service = stages["service"]
    assert values(service, "USER") == ["10001:10001"]
    assert values(service, "ENTRYPOINT") == ['["/opt/beamline/bin/beamline"]']
    assert values(service, "STOPSIGNAL") == ["SIGTERM"]


def test_the_port_is_the_settings(stages):
    assert values(stages["service"], "EXPOSE") == [str(Settings.model_fields["port"].default)]


def test_the_label_is_the_projects_version(stages):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"VERSION={project['version']}" in values(stages["service"], "ARG")


def test_the_embedded_model_is_the_makefiles(stages):
    version = re.search(r"^DEFAULT_MODEL := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for stage in ("model", "build-cuda"):
        assert f"EMBEDDED={version[1]}" in values(stages[stage], "ARG")


def test_what_is_copied_from_here_is_let_through(stages):
    """`.dockerignore` names all that the Dockerfile copies, and each of them is there."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / path).exists() for path in let_through)
    for stage in stages.values():
        for copied in values(stage, "COPY"):
            paths = [part for part in copied.split()[:-1] if not part.startswith("--")]
            if "--from=" not in copied and paths != ["."]:
                for path in paths:
                    assert (ROOT / path).exists()
                    assert any(path == each or path.startswith(each + "/") for each in let_through)


def test_every_package_of_ours_is_let_through():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{package.rstrip('*')}" for package in packages} <= set(lines)


def test_requirements_are_the_projects():
    command = [sys.executable, ROOT / "deploy/image/requirements.py", ROOT / "pyproject.toml"]
    told = subprocess.run([*command, "otel"], capture_output=True, text=True, check=True).stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["otel"]
    assert told.splitlines() == wanted


def test_trimming_keeps_what_a_service_opens(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    kept = ["torch/bin/torch_shm_manager", "torch/lib/libtorch.so", "numpy/core.py"]
    gone = ["torch/bin/protoc", "torch/include/a.h", "torch/lib/a.a", "scipy/a/tests/test_a.py"]
    for name in [*kept, *gone]:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch()
    subprocess.run(["sh", ROOT / "deploy/image/trim.sh", tmp_path], check=True)
    left = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert left == set(kept)
