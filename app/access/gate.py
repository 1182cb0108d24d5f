"""Decides who may pass: which path needs which scope, and whether the request's key has it.

`app/http/authentication.py` asks it for each request before any route sees it. It looks at paths
and headers only, and leaves counting what passes to the `Meter` that it hands out.
"""

from collections.abc import Callable, Sequence

from starlette.datastructures import Headers

from app.access.counters import build_counters
from app.access.key_store import KeyStore
from app.access.keys import ApiKey, RateLimits, digest_of
from app.access.limiter import RateLimiter
from app.access.meter import Meter
from app.access.scopes import Scope, needed_scope
from app.errors import AdminClosed, MissingKey, ScopeMissing, UnknownKey
from app.metrics import Metrics
from app.settings import Settings

BEARER = "bearer"
KEY_HEADER = "x-api-key"


class Gate:
    """The service's keys and limits. Without keys everybody may do all but administer."""

    def __init__(
        self,
        *,
        store: KeyStore | None,  # None: no keys are set
        limiter: RateLimiter,
        metrics: Metrics,
        is_metrics_open: bool,
    ) -> None:
        self._store = store
        self.limiter = limiter
        self._metrics = metrics
        self._is_metrics_open = is_metrics_open

    @property
    def needs_keys(self) -> bool:
        """Whether any keys are set."""
        return self._store is not None

    def needed_scope(self, path: str) -> Scope | None:
        """The scope that a path needs; None: it is open to everybody."""
        return needed_scope(path, is_metrics_open=self._is_metrics_open)

    def admit(self, path: str, headers: Headers) -> Meter | None:
        """Let a request pass; the meter of its key, None where no key is needed.

        Raises:
            MissingKey, UnknownKey: it brings no key, or one that is not ours.
            ScopeMissing: its key is for something else.
            AdminClosed: nobody can be told from an operator, since no keys are set.
        """
        scope = self.needed_scope(path)
        if scope is None:
            return None
        if self._store is None:
            if scope is Scope.ADMIN:
                raise AdminClosed(
                    "Admin routes need an API key, and this server has none: start it with "
                    "--keys-file, and make a key with `beamline keys add NAME --scope admin`."
                )
            return None
        key = _find(self._store, headers)
        if scope not in key.scopes:
            raise ScopeMissing(
                f"This needs a key with the scope {scope}; this one has "
                f"{', '.join(sorted(key.scopes))}."
            )
        return Meter(key, self.limiter, self._metrics)

    def load(self) -> None:
        """Read the keys for the first time.

        Raises:
            KeyFileError: the file with the keys is unusable.
        """
        if self._store is not None:
            self._store.load()

    async def close(self) -> None:
        """Let go of connections."""
        await self.limiter.close()


def build_gate(settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> Gate:
    """What the settings ask for; its keys are yet to be loaded."""
    return Gate(
        store=_build_store(settings, clock),
        limiter=RateLimiter(build_counters(settings.rate_limit_redis), metrics),
        metrics=metrics,
        is_metrics_open=settings.public_metrics,
    )


def _build_store(settings: Settings, clock: Callable[[], float]) -> KeyStore | None:
    if not settings.has_keys:
        return None
    defaults = RateLimits(
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
    )
    callers = [secret.get_secret_value() for secret in settings.api_keys]
    operators = [secret.get_secret_value() for secret in settings.admin_api_keys]
    fixed = [
        *_fixed_keys("api-key", callers, frozenset({Scope.GENERATE}), defaults),
        *_fixed_keys("admin-api-key", operators, frozenset(Scope), defaults),
    ]
    return KeyStore(fixed=fixed, path=settings.keys_file, defaults=defaults, clock=clock)


def _fixed_keys(
    name: str, secrets: Sequence[str], scopes: frozenset[Scope], limits: RateLimits
) -> list[ApiKey]:
    """The environment's keys, named by their place: it gives them no names."""
    return [
        ApiKey(
            name=f"{name}-{place}",
            digest=digest_of(secret.encode()),
            scopes=scopes,
            limits=limits,
        )
        for place, secret in enumerate(secrets, start=1)
    ]


def _find(store: KeyStore, headers: Headers) -> ApiKey:
    secret = _secret_of(headers)
    if not secret:
        raise MissingKey(
            "This server needs an API key: send it as `Authorization: Bearer KEY`, or as "
            f"`{KEY_HEADER}: KEY`."
        )
    key = store.keyring().find(secret.encode("latin-1"))  # the bytes that were sent
    if key is None:
        raise UnknownKey("This API key is not known here, or has been revoked.")
    return key


def _secret_of(headers: Headers) -> str:
    """What follows `Bearer`; without that header, what `x-api-key` holds."""
    authorization = headers.get("authorization")
    if authorization is None:
        return headers.get(KEY_HEADER, "").strip()
    kind, _, secret = authorization.partition(" ")
    return secret.strip() if kind.lower() == BEARER else ""
