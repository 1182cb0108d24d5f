"""The work of `beamline generate`: from the order to the last line of the answers.

Whatever can be found out before the model loads is: wrong defaults, and answers that are not of
this run. Ctrl-C ends a run between two lines of its output.
"""

import asyncio
import itertools
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from fastapi.exceptions import RequestValidationError
from rich.console import Console
from rich.markup import escape

from app.batch.answers_file import AnswersFile, AnswersUnusable
from app.batch.lines import Line, LineReader
from app.batch.order import STANDARD, Order
from app.batch.run import Answer, BatchRun
from app.bodies.body_parser import BodyParser, with_defaults
from app.commands.batch_progress import BatchProgress
from app.commands.failure import FAILURE, INTERRUPTED, USAGE, failure
from app.error_replies import describe
from app.errors import ServiceUnavailable
from app.lifespan import open_services
from app.process.background import run_in_thread
from app.process.logs import configure_logging
from app.process.progress import shown_progress
from app.state import Services
from decoding.errors import InvalidStrategy
from decoding.registry import load_strategies
from engine.errors import EngineError
from optimize.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is left to do, and where it goes."""

    lines: Iterator[Line]
    num_lines: int | None  # of the whole input; None where it cannot be known before
    num_done: int  # by earlier runs
    output: BinaryIO
    fingerprint: str | None  # of what made the answers that are there


def run_offline(order: Order) -> int:
    """Answer every line of the order; returns the exit code."""
    configure_logging(level="warning", log_format="text")
    console = Console(stderr=True)
    try:
        reader = _line_reader(order)
        with ExitStack() as files:
            work = _find_work(order, reader, files)
            if work.num_done == work.num_lines:
                console.print(f"all {work.num_done} lines are answered", highlight=False)
                return 0
            return _Run(order, work, console).run()
    except (RequestValidationError, AnswersUnusable) as error:
        raise failure(_words(error), USAGE) from None
    except (ServiceUnavailable, ModelError, EngineError, InvalidStrategy, OSError) as error:
        raise failure(str(error)) from None


def _line_reader(order: Order) -> LineReader:
    parser = BodyParser(load_strategies())
    parser.parse(with_defaults({"text": "a prompt"}, order.defaults))
    return LineReader(
        parser=parser, defaults=order.defaults, seed=order.seed, is_text=order.is_text
    )


def _words(error: RequestValidationError | AnswersUnusable) -> str:
    """What is wrong; of a default the option that gave it."""
    if isinstance(error, AnswersUnusable):
        return str(error)
    problem = describe(error).problems[0]
    option = "--strategy" if problem.param == "strategy" else f"-p {problem.param}"
    return f"{option}: {problem.message}"


def _find_work(order: Order, reader: LineReader, files: ExitStack) -> _Work:
    """Open the files and skip what earlier runs have answered."""
    lines, num_lines = _open_input(order, reader, files)
    if order.output_file == STANDARD:
        return _Work(
            lines=lines,
            num_lines=num_lines,
            num_done=0,
            output=sys.stdout.buffer,
            fingerprint=None,
        )
    if not (order.resumes and order.output_file.exists()):
        output = files.enter_context(order.output_file.open("wb"))
        return _Work(lines=lines, num_lines=num_lines, num_done=0, output=output, fingerprint=None)
    answers, num_done = AnswersFile(order.output_file), 0
    for line in lines:
        if not answers.has_answered(line):
            lines = itertools.chain([line], lines)
            break
        num_done += 1
    return _Work(
        lines=lines,
        num_lines=num_lines,
        num_done=num_done,
        output=files.enter_context(answers.open()),
        fingerprint=answers.fingerprint,
    )


def _open_input(
    order: Order, reader: LineReader, files: ExitStack
) -> tuple[Iterator[Line], int | None]:
    if order.input_file == STANDARD:
        return _read(reader, sys.stdin.buffer), None
    with order.input_file.open("rb") as file:
        num_lines = sum(1 for raw in file if raw.strip())
    return _read(reader, files.enter_context(order.input_file.open("rb"))), num_lines


def _read(reader: LineReader, file: BinaryIO) -> Iterator[Line]:
    lines = (reader.read(number, raw) for number, raw in enumerate(file, 1))
    return (line for line in lines if line is not None)


class _Run:
    """One run over one model."""

    def __init__(self, order: Order, work: _Work, console: Console) -> None:
        self._order = order
        self._work = work
        self._console = console
        self._num_written = 0
        self._has_stuck_thread = True  # until the model is loaded, and if closing gives up

    def run(self) -> int:
        """Do the work; returns the exit code."""
        try:
            exit_code = asyncio.run(self._load_and_answer())
        except KeyboardInterrupt:
            exit_code = INTERRUPTED
            self._say("stopped")
            # Its reader may still hold standard input, which the usual exit would wait for.
            self._has_stuck_thread |= self._order.input_file == STANDARD
        except ServiceUnavailable as error:
            exit_code = FAILURE
            self._say(f"the engine gave up: {error}")
        if self._has_stuck_thread:  # the interpreter's own exit could crash on it
            self._work.output.close()
            logging.shutdown()
            os._exit(exit_code)
        return exit_code

    async def _load_and_answer(self) -> int:
        with ExitStack() as display:
            progress = display.enter_context(shown_progress(self._console))
            async with open_services(self._order.settings, progress) as services:
                display.close()
                exit_code = await self._answer_all(services)
        self._has_stuck_thread = services.has_stuck_thread
        return exit_code

    async def _answer_all(self, services: Services) -> int:
        generator, worker = services.generator, services.worker
        assert generator is not None, "a service that is open has a generator"
        assert worker is not None, "and a worker"
        self._check_fingerprint(generator.presenter.fingerprint)
        run = BatchRun(
            generator,
            max_in_flight=self._order.max_in_flight,
            engine_problem=lambda: services.engine_problem,
        )
        progress = BatchProgress(
            self._console,
            num_lines=self._work.num_lines,
            num_done=self._work.num_done,
            num_tokens=lambda: worker.stats.num_generated_tokens,
        )
        following = asyncio.create_task(progress.follow())
        with progress:
            try:
                async with aclosing(run.answers(self._lines())) as answers:
                    async for answer in answers:
                        self._write(answer)
                        progress.line_done(num_tokens=answer.num_tokens, is_error=answer.is_error)
            finally:
                following.cancel()
        self._console.print(progress.summary, soft_wrap=True, highlight=False)
        return FAILURE if progress.has_errors else 0

    def _check_fingerprint(self, fingerprint: str) -> None:
        known = self._work.fingerprint
        if known not in (None, fingerprint):
            raise AnswersUnusable(
                f"{self._order.output_file} was made with another model or runtime ({known}, and "
                f"this is {fingerprint}): give the same options, or begin another file."
            )

    async def _lines(self) -> AsyncIterator[Line]:
        """The lines; standard input may let one wait, which must not hold up what runs."""
        lines = self._work.lines
        if self._order.input_file != STANDARD:
            for line in lines:
                yield line
            return
        next_line = partial(next, lines, None)
        while (line := await run_in_thread(next_line, name="reader")) is not None:
            yield line

    def _write(self, answer: Answer) -> None:
        self._work.output.write(answer.encode())
        self._work.output.flush()
        self._num_written += 1

    def _say(self, what: str) -> None:
        """Why the run ended before its input did, and how to go on."""
        remedy = "" if self._order.output_file == STANDARD else "; --resume goes on from there"
        num_lines = self._work.num_done + self._num_written
        self._console.print(
            f"[bold red]{escape(what)}[/] after {num_lines} lines{remedy}", soft_wrap=True
        )
