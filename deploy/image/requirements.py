"""Prints what pyproject.toml requires, with some extras: `requirements.py FILE EXTRA,EXTRA`.

The Dockerfile installs this before our code is copied, so that a change of the code leaves the
packages where they are.
"""

import sys
import tomllib
from pathlib import Path


def requirements(file: Path, extras: list[str]) -> list[str]:
    """The requirements of a project and of these extras."""
    project = tomllib.loads(file.read_text())["project"]
    wanted: list[str] = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


if __name__ == "__main__":
    names = [name for name in sys.argv[2].split(",") if name]
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]), names)) + "\n")
