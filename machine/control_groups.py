"""The control groups that a process is in: where Linux keeps the limits of containers.

`memory` and `cores` read them. A group's limit holds for all groups below it, so the ancestors are
found as well, as far as they can be seen: a container usually sees its own group as the topmost.
Knows both versions of the interface, and machines that have some controllers in each. Where there
are no such groups, as on other systems, none are found.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroup:
    """One group as one controller shows it."""

    folder: Path
    is_unified: bool  # version 2, where all controllers share one tree

    def words(self, file: str) -> list[str]:
        """What a file of the group says; nothing where it is missing."""
        try:
            return (self.folder / file).read_text(encoding="ascii").split()
        except OSError:  # also of a group that has just been removed
            return []

    def number(self, file: str) -> int | None:
        """The number in a file; None where it is missing, or says that there is no limit."""
        words = self.words(file)
        return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None

    def numbers(self, file: str) -> dict[str, int]:
        """The lines of a file that has a name and a number in each."""
        words = self.words(file)
        pairs = zip(words[::2], words[1::2], strict=False)
        return {name: int(number) for name, number in pairs if number.isdecimal()}


def own_groups(controller: str, process: Path = PROCESS) -> list[ControlGroup]:
    """The groups in which a controller ("memory", "cpu") holds a process, innermost first."""
    try:
        memberships = (process / "cgroup").read_text().splitlines()
        mounts = list(_mounts(process / "mountinfo"))
    except OSError:
        return []
    membership = _membership(memberships, controller)
    if membership is None:
        return []
    path, is_unified = membership
    shown = [mount for mount in mounts if mount.shows(controller, is_unified=is_unified)]
    inside = [mount for mount in shown if mount.has(path)]
    if not inside:  # hidden; what a mount has at its top holds for us all the same
        return [ControlGroup(folder=mount.folder, is_unified=is_unified) for mount in shown[:1]]
    return [group for mount in inside for group in mount.groups(path)]


def _membership(lines: list[str], controller: str) -> tuple[str, bool] | None:
    """The path of the group in which the controller has the process, and if it is version 2's."""
    unified = None
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):  # a controller is in one version at a time
            return path, False
        if number == "0":
            unified = path, True
    return unified


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    """A tree of groups, or a part of one, in the file system."""

    root: str  # the group that is seen at its top
    folder: Path
    is_unified: bool
    options: frozenset[str]  # the names of controllers among them, in version 1

    def shows(self, controller: str, *, is_unified: bool) -> bool:
        """Whether the controller's groups are here."""
        return self.is_unified == is_unified and (is_unified or controller in self.options)

    def has(self, path: str) -> bool:
        """Whether the group of that path lies in the part that is seen."""
        group = PurePosixPath(path)
        return group.is_relative_to(self.root) and ".." not in group.parts

    def groups(self, path: str) -> list[ControlGroup]:
        """The group of that path, and those above it that are seen."""
        own = self.folder / PurePosixPath(path).relative_to(self.root)
        return [
            ControlGroup(folder=folder, is_unified=self.is_unified)
            for folder in (own, *own.parents)
            if folder.is_relative_to(self.folder)
        ]


def _mounts(file: Path) -> Iterator[_Mount]:
    """The mounted trees; proc_pid_mountinfo(5) describes the lines."""
    for line in file.read_text().splitlines():
        place, _, kind = line.partition(" - ")
        root, folder = (_unescaped(field) for field in place.split(" ")[3:5])
        file_system, *_, options = kind.split(" ")
        if file_system in ("cgroup", "cgroup2"):
            yield _Mount(
                root=root,
                folder=Path(folder),
                is_unified=file_system == "cgroup2",
                options=frozenset(options.split(",")),
            )


def _unescaped(field: str) -> str:
    """Blanks in paths are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
