"""The wall clock, standing still."""

import pytest

from tests.app.held_clock import HeldClock


@pytest.fixture
def wall_clock(monkeypatch):
    """The wall clock, which rate limits go by, under the test's control."""
    held = HeldClock(1_800_000_000.0)
    monkeypatch.setattr("time.time", held)
    return held
