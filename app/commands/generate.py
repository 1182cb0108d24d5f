"""`beamline generate`: answers a file of requests without a server, into a file of answers.

Reads the options and checks them; `offline_run.py`, which loads torch, does the work. Exit codes: 0
when every line was answered, 1 when a line could not be or the run could not go on, 2 when the
options are wrong, 130 after Ctrl-C.
"""

from pathlib import Path
from typing import Annotated

import typer

from app.batch.order import STANDARD, Order
from app.bodies.named_fields import InvalidField
from app.commands.failure import USAGE, failure
from app.commands.request_options import Parameters, Strategy, request_fields
from app.commands.setting_options import Given, takes_settings
from app.environment import limit_spinning
from app.settings import SettingsError, load_settings

ROWS_AHEAD = 2  # requests under way by default, in multiples of the rows of a step
MOST_IN_FLIGHT = 100_000
MOST_TEXTS_OF_A_LINE = 128  # what a body may hold; a line beyond the bound goes alone

HELP = """
Answer a file of requests without a server, all in one continuous batch.

Each line of INPUT is a JSON object as for POST /generate ("text" or "messages", and any other
field), with an "id" of its own if it likes; with --text it is a prompt. Each line of the output is
what POST /generate answers, or its error, with the line's number and id, in the order of the
input. Options -s and -p are for lines that say nothing else.

Draws are seeded by --seed and the line's number: the same run gives the same file. A run that was
stopped, however it was, goes on with --resume.

Examples:
  beamline generate prompts.jsonl -o answers.jsonl
  beamline generate questions.txt --text -s beam -p num_beams=4 -o answers.jsonl
  beamline generate prompts.jsonl -o answers.jsonl --resume
  echo '{"text": "The sea is"}' | beamline generate - -s greedy
"""


@takes_settings(
    ("Model", "Draft model", "Engine"),
    # The command keeps its own queue, and short enough.
    without=("max_waiting_requests",),
)
def generate(  # noqa: PLR0913  each is an option
    input_file: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A file of requests; - is standard input.")
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file of answers; - is standard output.")
    ] = STANDARD,
    text: Annotated[bool, typer.Option("--text", help="Lines are prompts, not JSON.")] = False,
    strategy: Strategy = None,
    parameter: Parameters = None,
    seed: Annotated[int, typer.Option(min=0, help="Of draws without a seed of their own.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on behind the answers that the file holds.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin the file of answers anew.")
    ] = False,
    max_in_flight: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_IN_FLIGHT,
            help="Requests under way at a time; by default twice --max-rows.",
        ),
    ] = None,
    given: Given,
) -> None:
    """Answer a file of requests."""
    _check_files(input_file, output, resumes=resume, overwrites=overwrite)
    try:
        settings = load_settings(given)
        in_flight = max_in_flight or ROWS_AHEAD * settings.max_rows
        order = Order(
            input_file=input_file,
            output_file=output,
            is_text=text,
            resumes=resume,
            defaults=request_fields(strategy, parameter),
            seed=seed,
            max_in_flight=in_flight,
            settings=load_settings({**given, **_own_settings(in_flight)}),
        )
    except (SettingsError, InvalidField) as error:
        raise failure(str(error), USAGE) from None
    limit_spinning()
    # Only now: this loads torch, which takes seconds that no mistake above should cost.
    from app.commands.offline_run import run_offline  # noqa: PLC0415

    raise typer.Exit(run_offline(order))


def _own_settings(max_in_flight: int) -> dict[str, object]:
    """Queues that hold all that is under way, and no answers kept beside those in the file."""
    most = max_in_flight + MOST_TEXTS_OF_A_LINE
    return {
        "max_waiting_requests": most,
        "max_pending_texts": most,
        "response_cache_entries": 0,
    }


def _check_files(input_file: Path, output: Path, *, resumes: bool, overwrites: bool) -> None:
    if input_file != STANDARD and not input_file.is_file():
        raise failure(f"{input_file}: there is no such file.", USAGE)
    if resumes and overwrites:
        raise failure("--resume and --overwrite contradict each other: leave one out.", USAGE)
    if output != STANDARD:
        _check_output(output, input_file, is_agreed=resumes or overwrites)
    elif resumes or overwrites:
        raise failure("--resume and --overwrite are for a file: give one with --output.", USAGE)


def _check_output(output: Path, input_file: Path, *, is_agreed: bool) -> None:
    if not output.absolute().parent.is_dir():
        raise failure(f"--output {output}: there is no such folder.", USAGE)
    if not output.exists():
        return
    if not output.is_file():
        raise failure(f"--output {output} is no file.", USAGE)
    if input_file != STANDARD and output.samefile(input_file):
        raise failure("--output is the input itself: give another file.", USAGE)
    if not is_agreed:
        raise failure(
            f"--output {output} exists already: --resume goes on behind what it holds, --overwrite "
            "begins anew.",
            USAGE,
        )
