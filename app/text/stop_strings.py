"""Stop strings: telling the engine when to stop, and cutting the text where it did.

`StopStrings` is called on the engine's thread after every token. The others run on the event loop:
`StopScanner` cuts before the stop string, so it also holds back text that may turn out to be the
beginning of one; `StopKeeper` cuts behind it.
"""

from collections.abc import Sequence

from app.text.codec import TextCodec
from app.text.token_bytes import UNDECODABLE

MAX_ANCHOR_TOKENS = 8


class StopStrings:
    """Does the text of these generated tokens now hold a stop string? Exact, and cheap.

    Called after each token, so a new match ends in the last token. Every token that shows
    has at least one byte, so a match lies within as many tokens as the longest stop string
    has bytes. Only those are decoded, after an anchor: tokens before them that show where a
    character begins and keep the decoder from dropping the first space.
    """

    def __init__(self, stops: Sequence[str], codec: TextCodec, context: Sequence[int]) -> None:
        self._stops = tuple(stops)
        self._codec = codec
        self._context = tuple(context)
        self._num_tokens = max(len(stop.encode()) for stop in stops)

    def __call__(self, generated_ids: Sequence[int]) -> bool:
        """`generated_ids`: all tokens generated so far, oldest first."""
        tail = self._shown_tail(generated_ids, self._num_tokens + MAX_ANCHOR_TOKENS)
        anchor, anchor_text = self._anchor_of(tail)
        text = self._codec.decode((*anchor, *tail[-self._num_tokens :]))
        new_text = text[len(anchor_text) :]
        return any(stop in new_text for stop in self._stops)

    def _shown_tail(self, generated_ids: Sequence[int], count: int) -> list[int]:
        """The last `count` generated tokens that show."""
        tail: list[int] = []
        for token_id in reversed(generated_ids):
            if not self._codec.is_silent(token_id):
                tail.append(token_id)
                if len(tail) == count:
                    break
        return tail[::-1]

    def _anchor_of(self, tail: Sequence[int]) -> tuple[Sequence[int], str]:
        before = tail[: -self._num_tokens]
        if len(before) < MAX_ANCHOR_TOKENS:  # the text begins here: so does its context
            before = (*self._context, *before)
            return before, self._codec.decode(before)
        for size in range(1, len(before) + 1):
            text = self._codec.decode(before[-size:])
            if text and UNDECODABLE not in text:
                return before[-size:], text
        return before, self._codec.decode(before)


class StopScanner:
    """Passes text on up to the first stop string, holding back what may begin one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        """The part of the text so far that is now certain to be before any stop string."""
        if self.has_stopped:
            return ""
        if not self._stops:
            return text
        pending = self._held + text
        found = [start for start in map(pending.find, self._stops) if start >= 0]
        if found:
            self.has_stopped = True
            self._held = ""
            return pending[: min(found)]
        num_held = max(_overlap(pending, stop) for stop in self._stops)
        self._held = pending[len(pending) - num_held :]
        return pending[: len(pending) - num_held]

    def finish(self) -> str:
        """What was held back in vain."""
        held, self._held = self._held, ""
        return held


class StopKeeper:
    """Passes text on up to the end of the first stop string to be complete."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._reach = max(map(len, self._stops), default=1) - 1
        self._passed = ""  # the last of the text that went through: a stop string may begin there
        self.has_stopped = False

    def push(self, text: str) -> str:
        """The part of the text that is not behind a stop string."""
        if self.has_stopped:
            return ""
        seen = self._passed + text
        found = [(seen.find(stop), stop) for stop in self._stops]
        ends = [start + len(stop) for start, stop in found if start >= 0]
        if ends:
            self.has_stopped = True
            return seen[len(self._passed) : min(ends)]
        self._passed = seen[max(0, len(seen) - self._reach) :]
        return text

    def finish(self) -> str:
        """Nothing was held back."""
        return ""


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop` without completing it."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
