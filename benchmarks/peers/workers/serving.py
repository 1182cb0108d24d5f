"""The loop that every worker shares: orders in, answers out, one JSON object a line."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# (prompts, most new tokens, how many at once) -> (prompt tokens, new tokens, the first text)
Answer = Callable[[Sequence[str], int, int], tuple[int, int, str]]


def serve(answer: Answer) -> None:
    """Answer orders until there are no more."""
    write({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        began_at = time.perf_counter()
        try:
            counts = answer(order["prompts"], order["new_tokens"], order["concurrency"])
        except Exception as error:  # noqa: BLE001  whatever a library raises is its answer
            write({"error": f"{type(error).__name__}: {error}"[:300]})
            continue
        seconds = time.perf_counter() - began_at
        names = ("num_prompt_tokens", "num_new_tokens", "text")
        write({"seconds": seconds, **dict(zip(names, counts, strict=True))})


def write(content: dict[str, Any]) -> None:
    """One line, beginning afresh: libraries print without an end of line."""
    print("\n" + json.dumps(content), flush=True)
