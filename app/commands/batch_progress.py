"""How far a run of `beamline generate` is: a bar on a terminal, else a line now and then.

Shows lines, tokens a second and the time left, on stderr; the answers may go to stdout.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

TICK_SECONDS = 0.5
RATE_TICKS = 20  # a rate is of the last ten seconds
PLAIN_TICKS = 60  # without a terminal, a line each half minute


class BatchProgress:
    """The display of one run; a context manager. Used on the event loop."""

    def __init__(
        self,
        console: Console,
        *,
        num_lines: int | None,
        num_done: int,
        num_tokens: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._num_lines = num_lines  # None: nobody knows
        self._num_done_before = num_done
        self._num_done = num_done
        self._num_errors = 0
        self._num_tokens = num_tokens  # generated up to now
        self._num_written_tokens = 0  # of these, in lines that are done
        self._clock = clock
        self._started_at = clock()
        self._recent = deque([(self._started_at, num_tokens())], RATE_TICKS)
        self._bars = Progress(
            *(TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TextColumn("lines")),
            *(TextColumn("[green]{task.fields[rate]}"), TimeElapsedColumn()),
            TextColumn("[cyan]{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task(
            "generating", total=num_lines, completed=num_done, rate="", left=""
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def line_done(self, *, num_tokens: int, is_error: bool) -> None:
        """One more line is written, with so many new tokens."""
        self._num_done += 1
        self._num_written_tokens += num_tokens
        self._num_errors += is_error
        self._bars.update(self._task, completed=self._num_done)

    async def follow(self) -> None:
        """Keep the display up to date until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            self.tick()
            if ticks % PLAIN_TICKS == 0 and not self._console.is_terminal:
                self._console.print(self.plain_line(), soft_wrap=True, highlight=False)

    def tick(self) -> None:
        """Measure the rate anew."""
        self._recent.append((self._clock(), self._num_tokens()))
        self._bars.update(self._task, rate=self._rate(), left=self._left())

    def plain_line(self) -> str:
        """Where the run is, in words."""
        of = "" if self._num_lines is None else f" of {self._num_lines}"
        parts = (f"{self._num_done}{of} lines", self._rate(), self._left())
        return ", ".join(part for part in parts if part)

    @property
    def summary(self) -> str:
        """What the run came to, in words."""
        seconds = self._clock() - self._started_at
        tokens, lines = self._num_tokens(), self._num_done - self._num_done_before
        errors = f", {self._num_errors} with errors" if self._num_errors else ""
        rate = tokens / seconds if seconds > 0 else 0.0
        return (
            f"{_count(lines, 'line')} in {seconds:.1f} s{errors}; "
            f"{_count(tokens, 'token')}, {rate:,.1f} tokens/s"
        )

    @property
    def has_errors(self) -> bool:
        """Whether a line of this run was answered with an error."""
        return self._num_errors > 0

    @property
    def _tokens_per_second(self) -> float:
        (first_at, first), (last_at, last) = self._recent[0], self._recent[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0

    def _rate(self) -> str:
        return f"{self._tokens_per_second:,.0f} tokens/s" if len(self._recent) > 1 else ""

    def _left(self) -> str:
        """By tokens: many lines are half done long before the first ones are whole."""
        done, rate = self._num_done - self._num_done_before, self._tokens_per_second
        if self._num_lines is None or not done or not rate:
            return ""
        tokens_of_a_line = self._num_written_tokens / done
        begun = self._num_tokens() - self._num_written_tokens
        tokens_left = tokens_of_a_line * (self._num_lines - self._num_done) - begun
        return f"{timedelta(seconds=round(max(tokens_left, 0) / rate))} left"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
