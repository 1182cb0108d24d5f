"""The two ways to chat, with a model loaded here and with a server. Called by `chat.py`."""

import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack
from typing import NoReturn

from rich.console import Console

from app.chat.conversation import Conversation
from app.chat.local_partner import LocalPartner
from app.chat.loop import ChatLoop
from app.chat.partner import ChatFailed, Partner
from app.chat.remote_partner import RemotePartner
from app.chat.terminal import Terminal
from app.commands.failure import FAILURE, INTERRUPTED, USAGE, failure
from app.lifespan import open_services
from app.process.logs import configure_logging
from app.process.progress import shown_progress
from app.settings import Settings
from app.state import Services
from decoding.errors import InvalidStrategy
from engine.errors import EngineError
from optimize.errors import ModelError

Fields = dict[str, object]


def chat_here(settings: Settings, fields: Fields, system: str | None) -> int:
    """Chat with the model that the settings describe; returns the exit code."""
    configure_logging(level="warning", log_format="text")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        services = _load(runner, stack, settings)
        assert services.generator is not None, "a service that is open has a generator"
        assert services.model is not None, "and a model"
        try:
            partner = LocalPartner(services.generator, services.model)
            exit_code = _chat(partner, runner, fields, system)
        finally:
            runner.run(stack.aclose())
        if services.has_stuck_thread:
            _leave_at_once(exit_code)
    return exit_code


def chat_with_server(url: str, api_key: str | None, fields: Fields, system: str | None) -> int:
    """Chat with the server at a URL; returns the exit code."""
    with asyncio.Runner() as runner:
        try:
            partner = runner.run(RemotePartner.connect(url, api_key))
        except ChatFailed as error:
            raise failure(str(error)) from None
        try:
            return _chat(partner, runner, fields, system)
        finally:
            runner.run(partner.close())


def _load(runner: asyncio.Runner, stack: AsyncExitStack, settings: Settings) -> Services:
    """The services, with their model loaded; the stack closes them."""
    console = Console(stderr=True)
    try:
        with shown_progress(console) as progress:
            return runner.run(stack.enter_async_context(open_services(settings, progress)))
    except KeyboardInterrupt:
        _leave_at_once(INTERRUPTED)
    except (ModelError, EngineError, InvalidStrategy, OSError) as error:
        raise failure(str(error)) from None


def _chat(partner: Partner, runner: asyncio.Runner, fields: Fields, system: str | None) -> int:
    terminal = Terminal()
    conversation = Conversation(fields=fields, system=system)
    try:
        partner.check(fields)
    except ChatFailed as error:
        raise failure(str(error), USAGE) from None
    loop = ChatLoop(conversation, partner, terminal, runner)
    loop.run()
    return FAILURE if loop.has_failed and not terminal.is_interactive else 0


def _leave_at_once(exit_code: int) -> NoReturn:
    """A thread still loads or computes, and the interpreter's own exit could crash on it."""
    sys.stdout.flush()
    logging.shutdown()
    os._exit(exit_code)
