"""Control groups in a temporary folder, written as Linux writes them."""


class WrittenGroups:
    """What a process finds in /proc/self, and the trees of groups that are mounted."""

    def __init__(self, folder):
        self.process = folder / "self"
        self.process.mkdir(parents=True)
        self._folder = folder
        self._mounts = []

    def unified(self, path, *, root="/"):
        """The process is in this group of version 2, of whose tree `root` and below is mounted."""
        self._place(f"0::{path}", "cgroup2", "rw,nsdelegate", "unified", root)

    def separate(self, controllers, path, *, root="/"):
        """The same of a tree of version 1, for controllers with commas in between."""
        self._place(f"4:{controllers}:{path}", "cgroup", f"rw,{controllers}", controllers, root)

    def write(self, tree, group, files):
        """Files of a group, by its path below the top of the mounted tree."""
        folder = self._folder / tree / group.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")

    def _place(self, membership, file_system, options, name, root):
        with (self.process / "cgroup").open("a") as file:
            file.write(f"{membership}\n")
        (self._folder / name).mkdir(exist_ok=True)
        folder = str(self._folder / name).replace(" ", "\\040")
        mount = f"35 31 0:32 {root} {folder} rw,nosuid shared:9 - {file_system} none {options}"
        with (self.process / "mountinfo").open("a") as file:
            file.write(f"23 1 8:1 / / rw,relatime - ext4 /dev/root rw\n{mount}\n")
