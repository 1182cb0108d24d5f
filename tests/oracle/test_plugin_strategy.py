"""A strategy from another package: found by its entry point, run beside the built-in ones."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from decoding.base import Strategy
from decoding.errors import InvalidStrategy
from decoding.registry import STRATEGIES, load_strategies
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import GenerationRequest
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import run_staggered
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.serving import build_engine
from tests.oracle.workload import BEAMS, GREEDY, PLAIN, build_requests

RUNNER_UP = '''
"""Takes the token of a chosen rank at every step: what nobody asked for, but easy to check."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.ask import Best
from decoding.base import Continuation, Decision, Emission, Hypothesis, Task
from decoding.params import Processing


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    """Take the token of the same rank at every step."""

    rank: Annotated[int, Ge(1), Le(10), Doc("1 is the second best token.")] = 1

    name: ClassVar[str] = "runner_up"
    is_deterministic: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        return 1

    @property
    def num_results(self) -> int:
        return 1

    def start(self, task: Task) -> "RunnerUpDecoder":
        return RunnerUpDecoder(self.rank, task)


class RunnerUpDecoder:
    def __init__(self, rank, task):
        self.ask = Best(Processing(), count=rank + 1)
        self._rank = rank
        self._task = task

    def advance(self, rows, found):
        (row,), chosen = rows, found[0][: self._rank + 1][-1]
        token_ids = (*row.generated_ids, chosen.token_id)
        logprobs = (*row.logprobs, chosen.logprob)
        emission = Emission(index=0, token_ids=token_ids[-1:], logprobs=logprobs[-1:])
        reason = self._task.finish_reason(token_ids)
        if reason is not None:
            result = Hypothesis(token_ids=token_ids, logprobs=logprobs, finish_reason=reason)
            return Decision(emissions=(emission,), results=(result,))
        live = Continuation(parent=0, token_id=chosen.token_id, logprob=chosen.logprob, index=0)
        return Decision(live=(live,), emissions=(emission,))
'''
MODULE = "beamline_test_plugin"


class Site:
    """A folder of installed packages on `sys.path`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, source: str, entry_points: Mapping[str, str]) -> None:
        """Install one module under the name `MODULE`, with strategies as entry points."""
        (self._folder / f"{MODULE}.py").write_text(source)
        dist_info = self._folder / "beamline_test_plugin-1.0.dist-info"
        dist_info.mkdir()
        (dist_info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: beamline-test-plugin\nVersion: 1.0\n"
        )
        lines = [f"{name} = {MODULE}:{value}" for name, value in entry_points.items()]
        (dist_info / "entry_points.txt").write_text(
            "\n".join(["[beamline.strategies]", *lines, ""])
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Site(tmp_path)
    sys.modules.pop(MODULE, None)


@pytest.fixture
def runner_up(site: Site) -> type[Strategy]:
    site.install(RUNNER_UP, {"runner_up": "RunnerUp"})
    return load_strategies()["runner_up"]


@pytest.fixture(scope="module")
def exam() -> Exam:
    return set_exam(*served("qwen3"), [*GREEDY, *BEAMS[:6]])


@pytest.fixture
def engine(exam: Exam) -> Engine:
    return build_engine(exam.architecture, EngineConfig(block_size=4))


def test_an_installed_strategy_stands_beside_the_built_in_ones(runner_up: type[Strategy]) -> None:
    assert load_strategies() == {**STRATEGIES, "runner_up": runner_up}


def test_without_plugins_there_are_only_the_built_in_ones() -> None:
    assert load_strategies() == dict(STRATEGIES)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_plugin_decodes_in_one_batch_with_the_built_in_strategies(
    runner_up: type[Strategy], engine: Engine, exam: Exam, rank: int
) -> None:
    requests = build_requests([runner_up(rank=rank)] * 4, frozenset(), seed=2, max_new_tokens=9)
    plugged = [replace(request, adjustments=PLAIN) for request in requests]
    run = run_staggered(engine, [*plugged[:2], *exam.requests, *plugged[2:]])
    exam.check(run)
    for request in plugged:
        assert run.tokens(request.request_id) == (expected_tokens(exam, request, rank),)


def expected_tokens(exam: Exam, request: GenerationRequest, rank: int) -> tuple[int, ...]:
    model = build_model(exam.architecture)
    token_ids = list(request.prompt_ids)
    with torch.inference_mode():
        for _ in range(request.max_new_tokens):
            logits = model(torch.tensor([token_ids])).logits[0, -1]
            token_ids.append(logits.topk(rank + 1).indices[rank].item())
    return tuple(token_ids[len(request.prompt_ids) :])


GOES_ON = "return Decision(live=(live,), emissions=(emission,))"
BROKEN: Mapping[str, str] = {
    "an-exception": 'raise RuntimeError("a bug in the plugin")',
    "no-decision": "return None",
    "an-end-without-result": "return Decision()",
    "an-unknown-parent": "return Decision(live=(replace(live, parent=7),))",
    "more-rows-than-announced": "return Decision(live=(live, live))",
    "a-token-outside": "return Decision(live=(replace(live, token_id=10**6),))",
    "a-negative-token": "return Decision(live=(replace(live, token_id=-1),))",
    "a-token-that-is-no-number": 'return Decision(live=(replace(live, token_id="a"),))',
    "no-ask": f"self.ask = None; {GOES_ON}",
    "a-negative-count": f"self.ask = Best(Processing(), count=-1); {GOES_ON}",
    "a-count-of-nothing": f"self.ask = Best(Processing(), count=0); {GOES_ON}",
    "a-negative-seed": f"self.ask = Draw(Processing(), seed=-1); {GOES_ON}",
    "a-draw-of-nothing": f"self.ask = Draw(Processing(), seed=1, count=0); {GOES_ON}",
    "a-negative-top-k": f"self.ask = Draw(Processing(top_k=-2), seed=1); {GOES_ON}",
    "a-top-p-of-nothing": f"self.ask = Draw(Processing(top_p=0.0), seed=1); {GOES_ON}",
    "a-temperature-of-zero": f"self.ask = Draw(Processing(temperature=0.0), seed=1); {GOES_ON}",
    "a-min-p-of-two": f"self.ask = Best(Processing(min_p=2.0), 9); {GOES_ON}",
    "no-processing": f"self.ask = Best(None, count=2); {GOES_ON}",
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_plugin_fails_its_own_request_and_no_other(
    site: Site, engine: Engine, exam: Exam, way: str
) -> None:
    source = RUNNER_UP.replace("import dataclass\n", "import dataclass, replace\n")
    source = source.replace("import Best,", "import Best, Draw,")
    site.install(source.replace(GOES_ON, BROKEN[way]), {"runner_up": "RunnerUp"})
    strategy = load_strategies()["runner_up"]()
    (request,) = build_requests([strategy], frozenset(), seed=2, max_new_tokens=9)
    run = run_staggered(engine, [*exam.requests[:7], request, *exam.requests[7:]])
    assert run.failed.keys() == {request.request_id}
    run.failed.clear()
    exam.check(run)
    assert engine.stats().num_cached_tokens == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class RunnerUp: pass", "not a strategy"),
        (RUNNER_UP.replace('"runner_up"', '"greedy"'), "greedy"),
        ("RunnerUp = 7", "not a strategy"),
    ],
    ids=["not-a-strategy", "a-name-in-use", "not-a-class"],
)
def test_an_entry_point_that_is_no_strategy_is_refused(
    site: Site, source: str, message: str
) -> None:
    site.install(source, {"runner_up": "RunnerUp"})
    with pytest.raises(InvalidStrategy, match=message):
        load_strategies()


@pytest.mark.parametrize(
    ("source", "value"), [("import no_such_module", "RunnerUp"), (RUNNER_UP, "NoSuchName")]
)
def test_an_entry_point_that_cannot_be_imported_is_refused_by_name(
    site: Site, source: str, value: str
) -> None:
    site.install(source, {"runner_up": value})
    with pytest.raises(InvalidStrategy, match=MODULE):
        load_strategies()
