"""An engine worker on its own thread over a runner without a model."""

from engine.worker import EngineWorker
from tests.engine.deliveries import Deliveries
from tests.engine.hash_runner import HashRunner, build_engine


class RunningWorker:
    """A worker with its runner and deliveries, closed at the end of the test."""

    def __init__(self, *, max_waiting_requests: int = 100, **bounds: int) -> None:
        self.runner = HashRunner()
        self.deliveries = Deliveries()
        self.worker = EngineWorker(
            build_engine(self.runner, **bounds),
            deliver=self.deliveries,
            max_waiting_requests=max_waiting_requests,
        )
