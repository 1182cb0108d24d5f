"""What a user installs is under licences that ask for no more than to be named.

Read from the packages' own metadata: that of everything `pip install beamline` brings.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
PERMISSIVE = re.compile(
    r"Apache|\bMIT\b|BSD|\bISC\b|Python Software Foundation|PSF-2\.0|CNRI-Python|Zlib|CC0|BSL-1\.0"
)
# The source of these files, if changed, has to be given on; nothing is asked of what uses them.
WEAK_COPYLEFT = {"certifi", "tqdm"}  # Mozilla Public License 2.0


def runtime_packages():
    """Names of all that the service needs, directly or not, on this machine."""
    found, left = set(), [Requirement(text) for text in PROJECT["dependencies"]]
    while left:
        requirement = left.pop()
        extras = {"", *requirement.extras}
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not needed or (requirement.name, *sorted(extras)) in found:
            continue
        found.add((requirement.name, *sorted(extras)))
        for text in metadata.requires(requirement.name) or ():
            other = Requirement(text)
            if other.marker is None or any(other.marker.evaluate({"extra": e}) for e in extras):
                other.marker = None
                left.append(other)
    return sorted({re.sub(r"[-_.]+", "-", name).lower() for name, *_ in found})


def licence_of(name):
    about = metadata.metadata(name)
    classifiers = about.get_all("Classifier", [])
    named = [text for text in classifiers if text.startswith("License ::")]
    return about.get("License-Expression") or "; ".join(named) or about.get("License") or ""


@pytest.mark.parametrize("name", runtime_packages())
def test_licence_is_permissive(name):
    licence = licence_of(name)
    assert not re.search(r"GPL|Affero|SSPL|Commons Clause|Proprietary", licence), licence
    assert PERMISSIVE.search(licence) or name in WEAK_COPYLEFT, licence


def test_project_says_its_own():
    assert PROJECT["license"] == "Apache-2.0"
    assert len(runtime_packages()) > len(PROJECT["dependencies"])
