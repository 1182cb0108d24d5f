"""The page of all settings, as `docs/settings.md` shows it.

python -m tests.app.commands.settings_page > docs/settings.md
"""

from app.commands.setting_options import PANELS
from app.settings import ENVIRONMENT_ONLY, ENVIRONMENT_PREFIX, Settings

HEAD = f"""# All settings

Made by `python -m tests.app.commands.settings_page`. Each is an option of `beamline serve` and an
environment variable: `--max-rows` is `{ENVIRONMENT_PREFIX}MAX_ROWS`. An option wins over its
variable, an empty variable is none, and one that is no setting is refused. Where no default stands
there is none, or it depends on the machine: `beamline doctor` says what a start would use.
[operations.md](operations.md), [security.md](security.md) and
[tensor-parallel.md](tensor-parallel.md) explain more."""
SECRET_HEAD = """
## By environment only

Everybody on a machine can read the options of its processes.
"""


def render() -> str:
    """The page."""
    parts = [HEAD]
    for panel, names in PANELS.items():
        parts += [f"\n## {panel}\n", _table([(_option(name), name) for name in names])]
    secrets = sorted(ENVIRONMENT_ONLY)
    shown = [(f"`{ENVIRONMENT_PREFIX}{name.upper()}`", name) for name in secrets]
    return "\n".join([*parts, SECRET_HEAD, _table(shown)]) + "\n"


def _table(rows: list[tuple[str, str]]) -> str:
    lines = [
        f"| {shown} | {_default(name)} | {Settings.model_fields[name].description} |"
        for shown, name in rows
    ]
    return "\n".join(["| setting | default | |", "|---|---|---|", *lines])


def _option(name: str) -> str:
    option = f"--{name.replace('_', '-')}"
    if Settings.model_fields[name].default is True:
        return f"`{option}`, `{option.replace('--', '--no-', 1)}`"
    return f"`{option}`"


def _default(name: str) -> str:
    """Nothing where it depends on the machine or its environment, or where there is none."""
    field = Settings.model_fields[name]
    if field.default_factory is not None or field.default in (None, ()):
        return ""
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201
