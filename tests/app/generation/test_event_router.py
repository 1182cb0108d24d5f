"""Events reach who waits for them, and one broken listener harms no other."""

from app.generation.event_router import EventRouter
from engine.messages import TokenEvent


class Listener:
    def __init__(self, error=None):
        self.events, self.failure, self._error = [], None, error

    def receive(self, event):
        self.events.append(event)
        if self._error is not None:
            raise self._error

    def fail(self, error):
        self.failure = error


def event(request_id, token_id=1):
    return TokenEvent(request_id=request_id, index=0, token_ids=(token_id,), logprobs=(0.0,))


def test_each_listener_gets_its_own_events_in_order():
    router, a, b = EventRouter(), Listener(), Listener()
    router.register("a", a)
    router.register("b", b)
    router.dispatch([event("a", 1), event("b", 2), event("a", 3)])
    assert a.events == [event("a", 1), event("a", 3)]
    assert b.events == [event("b", 2)]


def test_late_and_unknown_events_are_dropped():
    router, a = EventRouter(), Listener()
    router.register("a", a)
    router.unregister("a")
    router.unregister("a")
    router.dispatch([event("a"), event("never")])
    assert a.events == []


def test_a_listener_that_raises_fails_alone():
    error = RuntimeError("broken")
    router, broken, sound = EventRouter(), Listener(error), Listener()
    router.register("broken", broken)
    router.register("sound", sound)
    router.dispatch([event("broken"), event("sound")])
    assert broken.failure is error
    assert sound.events == [event("sound")]
