"""How an exchange ends before its time: what the application sees and counts of it."""

import asyncio

import pytest

from app.errors import ClientDisconnected
from app.http.disconnect import run_until_disconnect
from deploy.ray.call import HttpCall
from deploy.ray.exchange import Exchange

CALL = HttpCall(scope={"type": "http"}, body=b"{}", affinity_key=None)


class Listener:
    """An application that works for ever and notes how its work ended."""

    def __init__(self, *, is_watching):
        self.is_watching = is_watching
        self.has_begun = asyncio.Event()
        self.end = None

    async def __call__(self, _scope, receive, _send):
        await receive()
        try:
            await (run_until_disconnect(receive, self.work()) if self.is_watching else self.work())
        except BaseException as error:
            self.end = type(error)
            raise

    async def work(self):
        self.has_begun.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("is_watching", "end"), [(True, ClientDisconnected), (False, asyncio.CancelledError)]
)
async def test_who_watches_sees_a_client_that_went_and_who_does_not_is_cancelled(is_watching, end):
    app = Listener(is_watching=is_watching)
    exchange = Exchange(app, CALL)
    await app.has_begun.wait()
    await exchange.close()
    assert app.end is end


async def test_an_exchange_that_is_over_closes_at_once():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    exchange = Exchange(app, CALL)
    messages = [each async for batch in exchange.batches() for each in batch]
    await exchange.close()
    assert [each["type"] for each in messages] == ["http.response.start", "http.response.body"]
