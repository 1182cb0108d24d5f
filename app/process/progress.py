"""How loading a model is shown while it goes on: log lines, or a bar on a terminal.

`optimize.prepare` calls the function it is given with a stage and a fraction from 0 to 1, from
the thread that loads. The service logs by default; the `beamline` command shows a bar where
stderr is a terminal.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

ProgressCallback = Callable[[str, float], None]

logger = logging.getLogger(__name__)


def build_log_progress() -> ProgressCallback:
    """A callback that logs each stage once, when it begins."""
    stages: set[str] = set()

    def report(stage: str, fraction: float) -> None:
        del fraction
        if stage not in stages:
            stages.add(stage)
            logger.info("%s", stage)

    return report


@contextmanager
def terminal_progress(console: Console) -> Iterator[ProgressCallback]:
    """A callback that moves a bar, which is gone when the context ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("loading", total=1.0)

        def report(stage: str, fraction: float) -> None:
            bars.update(task, description=stage, completed=fraction)

        yield report


@contextmanager
def shown_progress(console: Console) -> Iterator[ProgressCallback]:
    """The bar if the console is a terminal, else log lines."""
    if not console.is_terminal:
        yield build_log_progress()
        return
    with terminal_progress(console) as report:
        yield report
