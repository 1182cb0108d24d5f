"""Files that other processes run name only what there is: no type checker reads the tests.

Plugins, scripts and slow tests would otherwise tell of a name that has moved when they are run,
which is not with every change.
"""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"app", "engine", "decoding", "optimize", "machine", "monitoring", "benchmarks"}
FILES = [file for tree in ("tests", "k8s") for file in sorted((ROOT / tree).rglob("*.py"))]


def imported(file: Path) -> list[tuple[str, str]]:
    """Modules of ours, each with a name that is taken from it."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.split(".")[0] in OURS
        for alias in node.names
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_file_imports_of_ours_is_there(file):
    for module, name in imported(file):
        is_there = hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
        assert is_there, f"{module} has no {name}"
