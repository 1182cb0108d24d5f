"""The app's errors. What a client sees of each stands in `app/error_replies.py`.

* AppError
  + InvalidRequest (ValueError): a field that cannot be served; `param` names it
  + TextQueueFull: too many texts wait to be tokenised
  + JobsFull: too many jobs are kept
  + JobNotFound: no such job, or it has expired
  + ModelNotFound: another model than the one that is served
  + MissingKey, UnknownKey: nobody that we know asks
  + ScopeMissing, AdminClosed: we know who asks, and they may not
  + RetryLater: not now; says after how many seconds it may work
    - ServiceUnavailable: the service is loading, draining or stopping
    - Overloaded: as many requests wait as may
    - RateLimited: the key has used up what it may use in a minute
  + StateConflict: an operator asks for what the service's state does not allow
  + ClientDisconnected: nobody is left to answer
  + ListFailed: no text of a list could be answered
"""

from collections.abc import Sequence


class AppError(Exception):
    """Base of everything the app raises on purpose. The message is fit for clients."""


class InvalidRequest(AppError, ValueError):
    """The request is wrong in itself; `param` names the field to change."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_value"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class TextQueueFull(AppError):
    """Every text thread is busy and enough texts wait already."""


class JobsFull(AppError):
    """As many jobs are kept as may be."""


class JobNotFound(AppError):
    """There is no such job: never was, forgotten, or expired."""


class ModelNotFound(AppError):
    """A request names a model that is not served here."""

    def __init__(self, given: str, served: str) -> None:
        super().__init__(f"There is no model {given!r} here; this server runs {served!r}.")


class MissingKey(AppError):
    """The request brings no API key."""


class UnknownKey(AppError):
    """The key it brings is not one of ours, or not any more."""


class ScopeMissing(AppError):
    """The key lacks the scope that this path needs."""


class AdminClosed(AppError):
    """No API key is set, so nobody can be told from an operator."""


class RetryLater(AppError):
    """Not now; `retry_after_seconds` from now it may work."""

    def __init__(self, message: str, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ServiceUnavailable(RetryLater):
    """The service cannot take or finish this request now; another replica may."""


class Overloaded(RetryLater):
    """The engine's queue is full."""


class RateLimited(RetryLater):
    """The key has used up its requests or tokens of this minute."""


class StateConflict(AppError):
    """The service is not in the state that this would change."""


class ClientDisconnected(AppError):
    """The client hung up before its answer was ready."""


class ListFailed(AppError):
    """Every text of a list failed; `failures` holds the error of each, in order."""

    def __init__(self, failures: Sequence[Exception]) -> None:
        super().__init__(f"None of the {len(failures)} texts could be answered.")
        self.failures = failures
