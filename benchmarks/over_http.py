"""A running server as a benchmark target: `POST /generate`, one connection a request."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from benchmarks.answers import Answer, TargetFailed
from benchmarks.mixed_requests import MixedRequest

TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Talks to the server at `url`, such as http://127.0.0.1:8000."""

    url: str

    @property
    def description(self) -> str:
        """The model, and where it runs."""
        return f"{self.url}, which says {self._open(Request(self.url + '/health'))}"

    def answer_together(self, requests: Sequence[MixedRequest]) -> list[Answer]:
        """All at once, in the order of `requests`."""
        with ThreadPoolExecutor(max_workers=len(requests)) as pool:
            return list(pool.map(self._ask, requests))

    def answer_in_turn(self, requests: Sequence[MixedRequest]) -> list[Answer]:
        """Each after the one before has ended."""
        return [self._ask(request) for request in requests]

    def _ask(self, mixed: MixedRequest) -> Answer:
        body = {
            "text": mixed.text,
            "strategy": mixed.strategy,
            "max_new_tokens": mixed.max_new_tokens,
            "seed": mixed.seed,
            "cache": False,
            "details": True,
            **mixed.parameters,
        }
        request_body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = self._open(Request(self.url + "/generate", data=request_body, headers=headers))
        tokens = answer["details"]["tokens"]
        return Answer(tuple(tuple(token["id"] for token in sequence) for sequence in tokens))

    def _open(self, request: Request) -> Any:  # noqa: ANN401  any JSON
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise TargetFailed(f"{request.full_url} answered {error.code}: {reason}") from error
        except URLError as error:
            raise TargetFailed(f"{request.full_url} cannot be reached: {error.reason}") from error
