"""What the engine can refuse or fail with.

* EngineError
  + RequestRefused (ValueError): the caller's mistake, raised by `EngineWorker.submit`
    - RequestTooLarge: it could never fit, however long it waited
  + QueueFull: too many requests wait; try again later
  + QueueTimedOut: the request's time was up before it was begun; try again later
  + EngineClosed: the engine is not running any more
  + StepFailed: the model or the device failed during a step that held this request
  + ShardLost: another process that computes a part of the model has failed or ended
  + DecodingFailed: this request's strategy or stop check raised, or its logits were not finite
    - ConstraintNotMet: its grammar or a parameter of its strategy cannot be followed any further,
      which is the caller's to change
  + UnsupportedModel: a model this runner cannot serve correctly, with the reason
  + NativeUnavailable: the operators in C++ cannot be made here; the service runs without them
  + StepTooSmall: the settings leave no room in a step for a piece of a prompt
  + CacheTooSmall: the memory for keys and values does not hold one step
  + CacheTooLarge: the settings give keys and values more memory than is free
"""


class EngineError(Exception):
    """Base of everything the engine raises on purpose."""


class RequestRefused(EngineError, ValueError):
    """The request is wrong in itself; sending it again will not help."""


class RequestTooLarge(RequestRefused):
    """Prompt, new tokens or rows exceed what the engine can hold even when empty."""


class QueueFull(EngineError):
    """The waiting queue has reached its bound."""


class QueueTimedOut(EngineError):
    """The request has waited as long as it may, and nothing of it was computed."""


class EngineClosed(EngineError):
    """The worker has been closed or has died; nothing can be submitted."""


class StepFailed(EngineError):
    """A model call failed; every request that was running when it did gets this."""


class ShardLost(EngineError):
    """Another process that computes a part of the model is gone; nothing more can be computed."""


class DecodingFailed(EngineError):
    """Choosing tokens failed for this one request; its neighbours are not affected."""


class ConstraintNotMet(DecodingFailed):
    """What the request asks of its text cannot be had; the message is fit for clients."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field  # the strategy's parameter that asks for it, if one does


class UnsupportedModel(EngineError):
    """The model loads but would not be served correctly; the message says why."""


class NativeUnavailable(EngineError):
    """The operators of `engine/native` cannot be compiled here; the message says why."""


class StepTooSmall(EngineError):
    """A step of so few tokens would never compute a prompt; the message gives the numbers."""


class CacheTooSmall(EngineError):
    """Not enough memory for keys and values; the message gives the numbers."""


class CacheTooLarge(EngineError):
    """More memory is asked for keys and values than the device has free; gives the numbers."""
