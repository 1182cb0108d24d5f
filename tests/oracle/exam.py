"""An exam: an architecture, the requests asked of it, and the right answers.

Setting one runs `model.generate` for every request, so test modules keep theirs in a fixture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from decoding.base import Strategy
from engine.messages import GenerationRequest
from tests.oracle.architectures import SERVED, Architecture, build_model
from tests.oracle.engine_run import EngineRun
from tests.oracle.reference import Reference, describe_difference, generate_reference
from tests.oracle.workload import build_requests, find_end_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """Requests in order of submission; references by request id."""

    architecture: Architecture
    requests: Sequence[GenerationRequest]
    references: Mapping[str, Reference]

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The end tokens of every request."""
        return self.requests[0].eos_token_ids

    def check(self, run: EngineRun) -> None:
        """Fail unless every request was answered, and every answer is the reference's."""
        assert not run.failed
        differences = [
            describe_difference(one, run.finished[one.request_id], self.references[one.request_id])
            for one in self.requests
        ]
        assert not any(differences), "\n".join(filter(None, differences))


def set_exam(
    architecture: Architecture, strategies: Sequence[Strategy], *, max_new_tokens: int | None = None
) -> Exam:
    """One request of the workload a strategy, and what `transformers` answers."""
    eos_token_ids = find_end_tokens(build_model(architecture))
    requests = build_requests(strategies, eos_token_ids, max_new_tokens=max_new_tokens)
    return set_exam_of(architecture, requests)


def set_exam_of(architecture: Architecture, requests: Sequence[GenerationRequest]) -> Exam:
    """Given requests, and what `transformers` answers."""
    model = build_model(architecture)
    return Exam(
        architecture=architecture,
        requests=requests,
        references={one.request_id: generate_reference(model, one) for one in requests},
    )


def served(*names: str) -> list[Architecture]:
    """Served architectures by name, for tests that do not need them all."""
    by_name = {architecture.name: architecture for architecture in SERVED}
    return [by_name[name] for name in names]
