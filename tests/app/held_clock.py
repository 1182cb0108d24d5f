"""A clock that stands still."""


class HeldClock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now
