"""`beamline doctor`: what a start with these options would run on, and what would make it faster.

Exit codes: 0 if the service could serve, 1 if it could not, 2 when the options are wrong.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.commands.failure import FAILURE, USAGE, failure
from app.commands.setting_options import Given, takes_settings
from app.environment import limit_spinning
from app.process.logs import configure_logging
from app.process.progress import shown_progress
from app.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:  # they load what `--help` need not wait for
    from app.doctor.advice import Advice, Case
    from app.doctor.machine import Machine
    from app.doctor.trial import Trial

GIBIBYTE = 2**30

HELP = """
Say what a service would run on here, and what would make it faster.

Loads the model as serve with the same options would, which prepares a new one; --quick only looks.
Exit code 1: it could not serve.
"""


@takes_settings(("Model", "Draft model", "Engine"))
def doctor(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Do not load the model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    given: Given,
) -> None:
    """Say what a service would run on."""
    try:
        settings = load_settings(given)
    except SettingsError as error:
        raise failure(str(error), USAGE) from None
    limit_spinning()
    case, advices = _examine(settings, quick=quick)
    if as_json:
        typer.echo(json.dumps(_content(case, advices), default=str))
    else:
        _show(case, advices)
    if case.trial.problem is not None:
        raise typer.Exit(FAILURE)


def _examine(settings: Settings, *, quick: bool) -> "tuple[Case, list[Advice]]":
    # Only now: they load torch.
    from app.doctor.advice import Case, advise  # noqa: PLC0415
    from app.doctor.machine import Machine  # noqa: PLC0415
    from app.doctor.trial import check_only, try_to_load  # noqa: PLC0415

    configure_logging(level="warning", log_format="text")
    machine = Machine.look(settings)  # before the model takes its part
    if quick:
        trial = check_only(settings)
    else:
        with shown_progress(Console(stderr=True)) as progress:
            trial = try_to_load(settings, progress)
    case = Case(settings=settings, machine=machine, trial=trial)
    return case, advise(case)


def _content(case: "Case", advices: "list[Advice]") -> dict[str, object]:
    return {
        "can_serve": case.trial.problem is None,
        "trial": asdict(case.trial),
        "threads": case.settings.threads,
        "max_rows": case.settings.max_rows,
        "machine": asdict(case.machine),
        "advice": [asdict(advice) for advice in advices],
    }


def _show(case: "Case", advices: "list[Advice]") -> None:
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    for name, value in (*_model_rows(case.trial), *_machine_rows(case.machine, case.settings)):
        table.add_row(f"[bold]{name}[/]", escape(value))
    console.print(table)
    for remark in case.trial.remarks:
        console.print(f"[dim]{escape(remark)}[/]", soft_wrap=True)
    if case.trial.problem is not None:
        console.print(f"\n[bold red]cannot serve:[/] {escape(case.trial.problem)}", soft_wrap=True)
    for advice in advices:
        console.print(f"\n[yellow]![/] {escape(advice.finding)}", soft_wrap=True)
        console.print(f"  [green]{escape(advice.remedy)}[/]", soft_wrap=True)
    if not advices and case.trial.problem is None:
        console.print("\n[green]nothing to improve that we know of[/]")


def _model_rows(trial: "Trial") -> list[tuple[str, str]]:
    model = trial.model
    if model is None:
        return []
    bits = "the same bits in any company" if trial.is_deterministic else "bits may vary by company"
    return [
        ("Model", f"{model.name}, {model.weights} weights, {trial.context_length:,} tokens"),
        ("Runtime", f"{model.runtime} on {model.device}, {model.operators} operators; {bits}"),
        ("KV cache", f"{trial.max_cached_tokens:,} tokens, {model.dtype}"),
    ]


def _machine_rows(machine: "Machine", settings: Settings) -> list[tuple[str, str]]:
    versions = machine.packages.items()
    limit = "" if machine.cpu_quota is None else f", {machine.cpu_quota:g} cores' worth of time"
    return [
        ("Threads", f"{settings.threads} of {machine.num_usable_cores} usable cores{limit}"),
        ("Processor", f"{machine.processor}: {', '.join(machine.instructions) or 'plain'}"),
        ("Compiler", machine.compiler or "none"),
        (
            "Memory",
            f"{_gib(machine.available_memory_bytes)} of {_gib(machine.total_memory_bytes)} free, "
            f"{_gib(machine.used_swap_bytes)} swapped out",
        ),
        ("Cache", f"{machine.cache_folder}, {_gib(machine.free_cache_bytes)} free on its disk"),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Packages", ", ".join(f"{name} {version or 'missing'}" for name, version in versions)),
    ]


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIBIBYTE:.1f} GiB"
