"""Loads the model exactly as a start of the service would, or only checks it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from app.loading import load_model
from app.process.progress import ProgressCallback
from app.runtime_choice import check_runtime
from app.settings import Settings
from app.state import ServedModel
from engine.errors import EngineError
from optimize.check import check_model
from optimize.errors import ModelError

LOADERS = ("app.loading", "app.runtimes")  # the loggers that tell what was chosen, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a start would come to."""

    problem: str | None  # why it would fail; None if nothing says so
    model: ServedModel | None = None  # None where it was not loaded; so are the next ones
    context_length: int | None = None  # tokens of prompt and answer
    max_cached_tokens: int | None = None  # that the KV cache holds
    is_deterministic: bool | None = None  # the same bits in any company
    remarks: tuple[str, ...] = ()  # what the loader said of its choices


def check_only(settings: Settings) -> Trial:
    """Check what can be checked without loading the model."""
    try:
        for each in (settings, settings.draft_settings):
            if each is not None:
                check_runtime(each, check_model(each.model_spec))
    except (ModelError, OSError) as error:
        return Trial(problem=str(error))
    return Trial(problem=None)


def try_to_load(settings: Settings, progress: ProgressCallback) -> Trial:
    """Load the model, and let it go again. Takes seconds; with a new model, a minute."""
    listener = _Listener()
    with ExitStack() as heard:
        for name in LOADERS:
            heard.enter_context(listener.heard_by(logging.getLogger(name)))
        try:
            loaded = load_model(settings, progress)
        except (ModelError, EngineError, OSError) as error:
            return Trial(problem=str(error), remarks=tuple(listener.remarks))
    limits = loaded.engine.limits
    loaded.close()
    return Trial(
        problem=None,
        model=loaded.served,
        context_length=limits.context_length,
        max_cached_tokens=limits.max_cached_tokens,
        is_deterministic=limits.is_deterministic,
        remarks=tuple(listener.remarks),
    )


class _Listener(logging.Handler):
    """Keeps what the loaders log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.remarks: list[str] = []

    @contextmanager
    def heard_by(self, logger: logging.Logger) -> Iterator[None]:
        """Listen to a logger, and to those below it, meanwhile."""
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        self.remarks.append(record.getMessage())
