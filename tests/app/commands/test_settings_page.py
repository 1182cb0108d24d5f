"""docs/settings.md tells of every setting, and of each what the code says."""

from pathlib import Path

from app.settings import Settings
from tests.app.commands.settings_page import render

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_page_is_what_the_settings_say():
    assert PAGE.read_text() == render(), (
        "run python -m tests.app.commands.settings_page > docs/settings.md"
    )


def test_every_setting_is_there_once_with_what_it_is_for():
    lines = PAGE.read_text().splitlines()
    for name, field in Settings.model_fields.items():
        names = (f"| `--{name.replace('_', '-')}`", f"| `BEAMLINE_{name.upper()}`")
        (line,) = (line for line in lines if line.startswith(names))
        assert field.description
        assert line.endswith(f"| {field.description} |")
