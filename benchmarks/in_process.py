"""The engine in this process as a benchmark target: no HTTP, no second thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Self

from benchmarks.answers import Answer, TargetFailed
from benchmarks.mixed_requests import MixedRequest
from decoding.registry import STRATEGIES
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import Event, GenerationRequest, RequestFailed, RequestFinished
from engine.torch_runner import TorchRunner
from optimize.prepare import PreparedModel, prepare_model
from optimize.spec import ModelSpec


@dataclass(slots=True)
class InProcessTarget:
    """Submits to an engine and steps it by hand."""

    prepared: PreparedModel
    engine: Engine
    ids: "count[int]"

    @classmethod
    def load(cls, spec: ModelSpec, config: EngineConfig) -> Self:
        """Prepare the model and build an engine around it."""
        prepared = prepare_model(spec)
        runner = TorchRunner.load(prepared.module, config, context_length=prepared.context_length)
        return cls(prepared, Engine(runner, config), count())

    @property
    def description(self) -> str:
        """The model, and where it runs."""
        model = self.prepared
        return f"{model.name} ({model.dtype} on {model.device}), engine in process"

    def answer_together(self, requests: Sequence[MixedRequest]) -> list[Answer]:
        """All at once, in the order of `requests`."""
        submitted = [self._build(request) for request in requests]
        events: list[Event] = []
        for request in submitted:
            self.engine.check(request)
            events += self.engine.add(request)
        while self.engine.has_work:
            events += self.engine.step()
        answers = dict(map(_answer, _endings(events)))
        return [answers[request.request_id] for request in submitted]

    def answer_in_turn(self, requests: Sequence[MixedRequest]) -> list[Answer]:
        """Each after the one before has ended."""
        return [answer for request in requests for answer in self.answer_together([request])]

    def _build(self, request: MixedRequest) -> GenerationRequest:
        token_ids = self.prepared.tokenizer(request.text)["input_ids"]
        return GenerationRequest(
            request_id=str(next(self.ids)),
            prompt_ids=tuple(token_ids),
            strategy=STRATEGIES[request.strategy](**request.parameters),
            max_new_tokens=request.max_new_tokens,
            seed=request.seed,
            eos_token_ids=self.prepared.eos_token_ids,
        )


def _endings(events: Sequence[Event]) -> list[RequestFinished | RequestFailed]:
    return [event for event in events if isinstance(event, RequestFinished | RequestFailed)]


def _answer(ending: RequestFinished | RequestFailed) -> tuple[str, Answer]:
    if isinstance(ending, RequestFailed):
        raise TargetFailed(str(ending.error))
    return ending.request_id, Answer(tuple(one.token_ids for one in ending.sequences))
