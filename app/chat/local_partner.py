"""A model in this process as the partner of a chat."""

from collections.abc import Callable

from fastapi.exceptions import RequestValidationError

from app.bodies.body_parser import BodyParser
from app.chat.conversation import Fields
from app.chat.partner import ChatFailed, Reply
from app.error_replies import describe
from app.errors import AppError
from app.generation.generator import TextGenerator
from app.state import ServedModel
from app.text.request import TextRequest
from decoding.registry import load_strategies
from engine.errors import EngineError

QUESTION = {"messages": [{"role": "user", "content": "Is this right?"}]}


class LocalPartner:
    """Asks the text generator of a service that is open."""

    def __init__(self, generator: TextGenerator, model: ServedModel) -> None:
        self._generator = generator
        self._model = model
        self._parser = BodyParser(load_strategies())

    @property
    def description(self) -> str:
        """What it is, in a line."""
        model = self._model
        return f"{model.name} ({model.weights} on {model.runtime}, {model.device})"

    def check(self, fields: Fields) -> None:
        """Find out whether requests may have these fields.

        Raises:
            ChatFailed: they may not, or the model has no way to write a conversation.
        """
        if not self._generator.presenter.codec.has_chat_template:
            raise ChatFailed(
                "this model has no chat template, so it was not made for conversations: choose "
                "another, or continue texts with `beamline generate`"
            )
        self._parse({**QUESTION, **fields})

    async def answer(self, body: Fields, show: Callable[[str], None]) -> Reply:
        """The answer to a request; `show` gets its first sequence as it comes.

        Raises:
            ChatFailed: there is none.
        """
        request = self._parse(body)
        try:
            subscription = await self._generator.start(request)
            try:
                while chunks := await subscription.next_chunks():
                    show("".join(chunk.text for chunk in chunks if chunk.index == 0))
                completed = await subscription.completed()
                response = self._generator.presenter.present(subscription, completed)
            finally:
                subscription.close()
        except (AppError, EngineError) as error:
            raise ChatFailed(_words(error)) from error
        return Reply.read(response.model_dump())

    def _parse(self, body: Fields) -> TextRequest:
        try:
            return self._parser.parse(dict(body)).as_requests()[0]
        except RequestValidationError as error:
            raise ChatFailed(_words(error)) from error


def _words(error: Exception) -> str:
    problem = describe(error).problems[0]
    return f"{problem.param}: {problem.message}" if problem.param else problem.message
