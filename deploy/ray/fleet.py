"""A front in a process of Ray's: what it knows of Ray, with Ray's errors told as ours.

Imports nothing that loads torch, so a front is small and starts fast.
"""

from collections.abc import AsyncIterator

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle
from starlette.types import Message

from deploy.ray.call import Declined, HttpCall, WholeAnswer
from deploy.ray.front import Front, FrontLimits, NoReplica, ReplicaDeclined, ReplicaGone

GONE = (RayActorError, ReplicaUnavailableError)
ABSENT = (BackPressureError, DeploymentUnavailableError)


class RayFleet:
    """A `Fleet` behind a handle of Ray Serve's."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._streamed = handle.options(method_name="answer", stream=True)

    async def ask(self, call: HttpCall) -> AsyncIterator[list[Message]]:
        """Have one replica answer; ended early, it tells the replica to stop."""
        answer = self._streamed.remote(call)
        try:
            async for said in answer:
                if isinstance(said, Declined):
                    raise ReplicaDeclined(said)
                yield said
        except GONE as error:
            raise ReplicaGone(type(error).__name__) from error
        except RequestCancelledError as error:  # not by us: the replica was made to stop
            raise ReplicaGone("it was stopped") from error
        except ABSENT as error:
            raise NoReplica(str(error)) from error
        finally:
            answer.cancel()

    async def ask_all(self, call: HttpCall, *, seconds: float) -> list[WholeAnswer]:
        """The answers of all replicas, save those that fail or take longer."""
        asked = self._handle.broadcast("answer_whole", call)
        try:
            answers = await asked.results_async(timeout_s=seconds, return_exceptions=True)
        except TimeoutError:
            return []
        return [each for each in answers if isinstance(each, WholeAnswer)]


@serve.ingress()
class FrontDeployment:
    """The front's application in a process of Ray's."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, replicas: DeploymentHandle, limits: FrontLimits
    ) -> None:
        self._front = Front(RayFleet(replicas), limits)

    def __serve_build_asgi_app__(self) -> Front:
        """The application, which Ray asks for once."""
        return self._front
