"""A request on its way from a front to a replica: all of it, so that it can be sent again."""

from dataclasses import dataclass

from starlette.types import Scope

from app.http.paths import path_of

SENT = ("type", "method", "path", "query_string", "headers", "http_version", "scheme", "client")
REPLICA_HEADER = "x-replica"  # of an answer: who gave it; of a request: who shall answer


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One HTTP request. Ray pickles it; `router.py` reads where it should go."""

    scope: dict[str, object]  # what of the ASGI scope can be sent
    body: bytes
    affinity_key: bytes | None  # requests with the same share a prefix; None: any replica does
    replica: str | None = None  # the only one that may answer
    avoided: frozenset[str] = frozenset()  # replicas that have declined it
    must_answer: bool = False  # all have: whoever gets it now says in its own words what is wrong
    is_repeated: bool = False  # a replica died over it, and has counted it already


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """What a replica says instead of an answer while it takes no requests, but others may."""

    replica: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """A response that was not streamed, and whose it is."""

    replica: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def sendable(scope: Scope) -> dict[str, object]:
    """What of an ASGI scope the replica needs. Paths are those below where Ray mounted us."""
    kept: dict[str, object] = {name: scope[name] for name in SENT if name in scope}
    kept["path"] = path_of(scope) or "/"
    kept["raw_path"] = str(kept["path"]).encode()
    kept["headers"] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    return kept
