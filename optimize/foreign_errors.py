"""Turns whatever foreign loading code raises into one of this package's errors.

Used around the calls into transformers by `loading` and `gguf_conversion`. The one place here that
catches every exception: tokenizers raises bare `Exception`s, the many model classes raise what they
like, and a trusted model's own code anything at all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from optimize.errors import ModelError


@contextmanager
def translated(make_error: Callable[[str], ModelError]) -> Iterator[None]:
    """Raise `make_error(reason)` in place of any exception that is not a `ModelError` already."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise make_error(f"{type(error).__name__}: {reason}") from error
