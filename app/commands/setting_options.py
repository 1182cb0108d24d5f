"""Settings as options: each field of `Settings` is an option of the commands that need it.

Commands take whole panels of them with `takes_settings`: a panel is a group of settings. Names,
types, bounds, order and help come from the settings themselves, so none is written twice.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from types import UnionType
from typing import Annotated, Optional, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.setting_groups.access import AccessSettings
from app.setting_groups.answers import AnswerSettings
from app.setting_groups.draft_model import DraftModelSettings
from app.setting_groups.engine import EngineSettings
from app.setting_groups.model import ModelSettings
from app.setting_groups.requests import RequestSettings
from app.setting_groups.server import ServerSettings
from app.settings import ENVIRONMENT_ONLY, Settings

GROUPS: Mapping[str, type[BaseModel]] = {
    "Model": ModelSettings,
    "Draft model": DraftModelSettings,
    "Server": ServerSettings,
    "Access": AccessSettings,
    "Requests": RequestSettings,
    "Engine": EngineSettings,
    "Answers": AnswerSettings,
}
PANELS: Mapping[str, tuple[str, ...]] = {
    title: tuple(name for name in group.model_fields if name not in ENVIRONMENT_ONLY)
    for title, group in GROUPS.items()
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
