"""Drives an engine by hand, step by step, and keeps what it says about each request.

It also holds the engine to its word: nothing follows a request's end, streamed tokens add up to
the final answer, and work is finished within a bounded number of steps.
"""

from collections.abc import Sequence

from engine.engine import Engine
from engine.messages import (
    Event,
    GenerationRequest,
    RequestFailed,
    RequestFinished,
    TokenEvent,
)

MAX_STEPS = 5000  # far beyond what any run of the suite takes


class EngineRun:
    """One engine and the events so far. Submits and steps only when told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.finished: dict[str, RequestFinished] = {}
        self.failed: dict[str, RequestFailed] = {}
        self._streamed: dict[tuple[str, int], tuple[int, ...]] = {}

    def submit(self, *requests: GenerationRequest) -> None:
        """Queue requests."""
        for request in requests:
            self.engine.check(request)
            self.record(self.engine.add(request))

    def step(self, count: int = 1) -> None:
        """Step `count` times, or until nothing is left to do."""
        for _ in range(count):
            if not self.engine.has_work:
                return
            self.record(self.engine.end_overdue())
            self.record(self.engine.step())

    def finish(self) -> None:
        """Step until every request has ended."""
        self.step(MAX_STEPS)
        assert not self.engine.has_work, f"work is left after {MAX_STEPS} steps"

    def streamed(self, request_id: str, index: int = 0) -> tuple[int, ...]:
        """Tokens of a sequence streamed so far."""
        return self._streamed.get((request_id, index), ())

    def tokens(self, request_id: str) -> tuple[tuple[int, ...], ...]:
        """The final tokens of each sequence of a finished request."""
        return tuple(sequence.token_ids for sequence in self.finished[request_id].sequences)

    def record(self, events: Sequence[Event]) -> None:
        """Take note of events; `submit` and `step` do so themselves."""
        for event in events:
            ended = self.finished.keys() | self.failed.keys()
            assert event.request_id not in ended, f"an event after the end: {event}"
            match event:
                case TokenEvent():
                    key = event.request_id, event.index
                    self._streamed[key] = self._streamed.get(key, ()) + event.token_ids
                case RequestFinished():
                    self.finished[event.request_id] = event
                    self._check_streamed(event)
                case RequestFailed():
                    self.failed[event.request_id] = event

    def _check_streamed(self, event: RequestFinished) -> None:
        for index, sequence in enumerate(event.sequences):
            streamed = self.streamed(event.request_id, index)
            assert streamed == sequence.token_ids, f"{event.request_id}: streamed {streamed}"


def run_staggered(
    engine: Engine,
    requests: Sequence[GenerationRequest],
    *,
    arriving_together: int = 4,
    steps_between: int = 2,
) -> EngineRun:
    """Submit a few requests, step a few times, submit more; then finish."""
    run = EngineRun(engine)
    for first in range(0, len(requests), arriving_together):
        run.submit(*requests[first : first + arriving_together])
        run.step(steps_between)
    run.finish()
    return run


def run_alone(engine: Engine, request: GenerationRequest) -> EngineRun:
    """One request with the engine to itself."""
    run = EngineRun(engine)
    run.submit(request)
    run.finish()
    return run
