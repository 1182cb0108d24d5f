"""Strategies by name: the built-in ones, and those that other packages declare."""

from collections.abc import Callable
from importlib import invalidate_caches
from pathlib import Path

import pytest

from decoding.errors import InvalidStrategy
from decoding.registry import DEFAULT_STRATEGY, ENTRY_POINT_GROUP, STRATEGIES, load_strategies

PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import MostLikely
from decoding.base import Task
from decoding.independent import IndependentDecoder
from decoding.params import Processing


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A strategy of another package."""

    name: ClassVar[str] = "{name}"
    is_deterministic: ClassVar[bool] = True
    num_rows: ClassVar[int] = 1
    num_results: ClassVar[int] = 1

    def start(self, task):
        return IndependentDecoder(ask=MostLikely(Processing()), task=task)


class NotADataclass:
    name = "plain"
    is_deterministic = True
    num_rows = num_results = 1

    def start(self, task):
        pass


@dataclass(frozen=True)
class Incomplete:
    name: ClassVar[str] = "incomplete"
    num_rows: ClassVar[int] = 1
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package with one entry point for the length of a test."""

    def install_one(value: str, *, module: str, name: str = "plugin") -> None:
        (tmp_path / f"{module}.py").write_text(PLUGIN.format(name=name))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[{ENTRY_POINT_GROUP}]\nanything = {module}:{value}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        invalidate_caches()

    return install_one


def test_built_in_strategies_are_listed_under_their_own_names() -> None:
    assert {name: strategy.name for name, strategy in STRATEGIES.items()} == {
        name: name
        for name in (
            *("greedy", "sample", "top_k", "top_p", "beam", "beam_sample", "best_of"),
            *("min_p", "typical", "epsilon", "eta", "top_h", "top_n_sigma", "xtc"),
            *("dynamic_temperature", "mirostat", "diverse_beam", "constrained_beam"),
            *("contrastive", "dola"),
        )
    }
    assert DEFAULT_STRATEGY == "sample"


def test_the_built_in_mapping_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        STRATEGIES["mine"] = STRATEGIES["greedy"]


def test_without_plugins_only_the_built_in_strategies_are_loaded() -> None:
    assert load_strategies() == dict(STRATEGIES)


def test_a_strategy_of_another_package_is_loaded_under_its_own_name(install: Install) -> None:
    install("Plugin", module="plugin_good", name="another")
    strategies = load_strategies()
    assert strategies.keys() - STRATEGIES.keys() == {"another"}
    assert strategies["another"]().num_rows == 1


def test_a_name_in_use_is_refused_with_its_origin(install: Install) -> None:
    install("Plugin", module="plugin_taken", name="greedy")
    with pytest.raises(InvalidStrategy, match=r"plugin_taken:Plugin.*'greedy'.*in use"):
        load_strategies()


def test_a_class_that_lacks_something_is_refused_by_what_it_lacks(install: Install) -> None:
    install("Incomplete", module="plugin_incomplete")
    with pytest.raises(InvalidStrategy, match=r"lacks.*is_deterministic.*num_results.*start"):
        load_strategies()


def test_a_class_whose_parameters_cannot_be_read_is_refused(install: Install) -> None:
    install("NotADataclass", module="plugin_plain")
    with pytest.raises(InvalidStrategy, match="is not a dataclass"):
        load_strategies()


@pytest.mark.parametrize(
    ("value", "module"), [("Missing", "plugin_missing"), ("Plugin.nothing", "plugin_nothing")]
)
def test_an_entry_point_that_leads_nowhere_is_refused_with_its_origin(
    install: Install, value: str, module: str
) -> None:
    install(value, module=module)
    with pytest.raises(InvalidStrategy, match=f"{module}:{value}"):
        load_strategies()
