"""A running Beamline server as the partner of a chat, through `POST /generate/stream`."""

import json
from collections.abc import AsyncIterator, Callable

import aiohttp

from app.chat.conversation import Fields
from app.chat.partner import ChatFailed, Reply

SILENCE_SECONDS = 120.0  # the server sends a sign of life more often
MOST_LINE_BYTES = 2**24  # an answer with its trace is one line


class RemotePartner:
    """Asks one server. Used on the loop that its session belongs to."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model_name: str) -> None:
        self._session = session
        self._url = url
        self._model_name = model_name

    @classmethod
    async def connect(cls, url: str, api_key: str | None) -> "RemotePartner":
        """The server at a URL, once it says what it serves; to be closed.

        Raises:
            ChatFailed: nothing answers there, or it is not ready.
        """
        session = _open_session(api_key)
        try:
            return cls(session, url, await _served_model(session, url))
        except BaseException:
            await session.close()
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        await self._session.close()

    @property
    def description(self) -> str:
        """What it is, in a line."""
        return f"{self._model_name} at {self._url}"

    def check(self, fields: Fields) -> None:
        """Nothing: only the server knows which fields it takes, and says so when it is asked."""

    async def answer(self, body: Fields, show: Callable[[str], None]) -> Reply:
        """The answer to a request; `show` gets its first sequence as it comes.

        Raises:
            ChatFailed: there is none.
        """
        try:
            async with self._session.post(f"{self._url}/generate/stream", json=body) as response:
                if response.status != 200:
                    raise ChatFailed(_words(await response.text(), response.status))
                async for event, data in _events(response.content):
                    if event == "done":
                        return Reply.read(json.loads(data))
                    if event == "error":
                        raise ChatFailed(_words(data, response.status))
                    content = json.loads(data)
                    if content["index"] == 0:
                        show(content["text"])
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            raise ChatFailed(f"the server was lost: {error!r}") from error
        raise ChatFailed("the stream ended before the answer did")


def _open_session(api_key: str | None) -> aiohttp.ClientSession:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return aiohttp.ClientSession(
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=SILENCE_SECONDS),
        read_bufsize=MOST_LINE_BYTES,
    )


async def _served_model(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.get(f"{url}/health") as response:
            health = await response.json()
            if response.status != 200:
                raise ChatFailed(f"{url} is not ready: {health['reason']}")
            return str(health["model"]["name"])
    except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
        raise ChatFailed(f"no server answers at {url}: {error}") from error
    except (aiohttp.ClientError, ValueError, KeyError, TypeError) as error:
        raise ChatFailed(f"the server at {url} is none of Beamline's") from error


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Server-sent events as name and data."""
    name = ""
    async for raw in content:
        key, _, value = raw.decode().rstrip("\r\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, value


def _words(text: str, status: int) -> str:
    """What an error body says; of anything else, its beginning."""
    try:
        error = json.loads(text)["error"]
        param = error.get("param")
        return f"{param}: {error['message']}" if param else str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"HTTP {status}: {' '.join(text.split())[:200]}"
