"""docs/architecture.md is the map of the code: it names every folder, and only files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAP = (ROOT / "docs" / "architecture.md").read_text()
TREES = ("app", "engine", "decoding", "optimize", "deploy", "monitoring", "benchmarks", "k8s")
FILES = [file.relative_to(ROOT) for tree in TREES for file in (ROOT / tree).rglob("*.py")]
FOLDERS = sorted({file.parent for file in FILES})
NAMED_FILES = sorted(set(re.findall(r"`([\w/]+\.py)`", MAP)))


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_of_code_is_on_the_map(folder):
    named = [f"`{folder.name}/`", f"{folder}/", f"`{folder}`"]
    assert any(name in MAP for name in named), f"docs/architecture.md does not tell of {folder}/"


@pytest.mark.parametrize("name", NAMED_FILES)
def test_a_file_on_the_map_is_there(name):
    assert any(f"/{file}".endswith(f"/{name}") for file in FILES)
