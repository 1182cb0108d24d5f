"""How preparing a model tells its caller where it is. The caller (the CLI) draws it.

Only the types of the callbacks and the two smallest of them; libraries' own bars are silenced in
`quiet_bars`.
"""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Told the stage in words and the fraction of it done, from 0 to 1. A stage may be skipped."""
Report = Callable[[float], None]
"""Told the fraction of one stage done, from 0 to 1."""


def stage(progress: Progress, name: str) -> Report:
    """A report for one stage of `progress`."""

    def report(fraction: float) -> None:
        progress(name, fraction)

    return report


def ignore_progress(_stage: str, _fraction: float) -> None:
    """The progress of a caller that does not want to know."""
