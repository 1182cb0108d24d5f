"""Settings as options: each field of `Settings` is an option of the commands that need it.

Commands take whole panels of them with `takes_settings`; names, types, bounds and help come from
the settings themselves, so none is written twice.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from types import UnionType
from typing import Annotated, Optional, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from app.settings import Settings

PANELS: Mapping[str, tuple[str, ...]] = {
    "Model": (
        *("model", "revision", "runtime", "weights", "calibration", "native"),
        *("device", "dtype", "trust_remote_code", "cache_folder", "operators_folder"),
    ),
    "Draft model": ("draft_model", "draft_revision", "num_speculative_tokens"),
    "Server": (
        *("host", "port", "max_body_bytes", "grace_seconds", "stall_seconds"),
        *(
            "log_level",
            "log_format",
            "access_log",
            "log_prompts",
            "otlp_endpoint",
            "metrics_compat",
        ),
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
        *("block_size", "kv_cache_bytes", "tensor_parallel_size"),
    ),
    "Answers": (
        *("response_cache_entries", "response_cache_bytes", "max_jobs", "job_ttl_seconds"),
        *("cache_across_keys", "cache_redis", "cache_redis_ttl_seconds"),
        *("cache_redis_timeout_seconds", "cache_redis_entry_bytes", "cache_redis_prefix"),
        *("text_threads", "max_pending_texts", "sse_keep_alive_seconds"),
    ),
}

Given = Mapping[str, object]  # settings by name, those that were given only
Command = Callable[..., None]


def takes_settings(
    panels: Collection[str], *, without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Add the options of these panels to a command, which gets what was given as `given`.

    Args:
        panels: names of `PANELS`.
        without: settings of them that the command decides itself.
    """
    options = {
        name: _option(name, Settings.model_fields[name], panel)
        for panel in panels
        for name in PANELS[panel]
        if name not in without
    }

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**arguments: object) -> None:
            given = {name: arguments.pop(name) for name in options}
            command(
                **arguments, given={n: value for n, value in given.items() if value is not None}
            )

        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.name != "given"]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # typer reads it
            parameters=[*own, *options.values()]
        )
        return run

    return decorate


def _option(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    default = field.get_default(call_default_factory=True)
    flag = "--" + name.replace("_", "-")
    shown = ""
    if default is True:
        flag += flag.replace("--", "/--no-", 1)
    elif default not in (None, False):
        shown = f" Default: {default}."
    annotated = _plain(field.annotation)
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


def _plain(kind: object) -> object:
    """A type without bounds and checks within it, which typer would show; settings know them."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_plain(each) for each in get_args(kind))]  # noqa: UP007  made at run time
    return kind
