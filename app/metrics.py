"""What the service counts and times itself: HTTP, requests, caches. One `Metrics` a service.

The middleware and the text generator call it; `GET /metrics` renders its registry. The engine
counts for itself and is read when scraped (`app/engine_metrics.py`). Nothing is global: each
`Metrics` has its own registry, so two services in one process never mix. Label values come from
fixed sets only (route templates, known methods, strategy names, names of API keys), so clients
cannot add series.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

LATENCY_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0),
)
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0),
)
INTER_TOKEN_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 10.0, 20.0),
)
QUEUE_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0),
)
STRATEGY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 480.0)
LOOP_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SHARED_CACHE_BUCKETS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
KNOWN_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)


class Metrics:
    """Counters and histograms of one service. Safe to call from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = self._counter(
            "api_requests", "HTTP requests answered.", ("endpoint", "method", "status")
        )
        self._in_flight = Gauge(
            "api_requests_in_flight", "HTTP requests being answered now.", registry=self.registry
        )
        self._durations = Histogram(
            "api_request_duration_seconds",
            "From the first byte of a request to the last byte of its answer.",
            ("endpoint",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._loop_lag = self._histogram(
            "event_loop_lag_seconds",
            "By how much timers of the event loop are late: what all requests wait for.",
            LOOP_LAG_BUCKETS,
        )
        self._build_generation_metrics()

    def _build_generation_metrics(self) -> None:
        self._inference = self._histogram(
            "model_inference_duration_seconds",
            "From first being scheduled to the last token, for one generation.",
            LATENCY_BUCKETS,
        )
        self._first_token = self._histogram(
            "time_to_first_token_seconds",
            "From submitting a generation to its first token, waiting included.",
            FIRST_TOKEN_BUCKETS,
        )
        self._inter_token = self._histogram(
            "inter_token_latency_seconds",
            "Time between two tokens of a sequence after its first.",
            INTER_TOKEN_BUCKETS,
        )
        self._queue_time = self._histogram(
            "queue_time_seconds", "From submitting a generation to its scheduling.", QUEUE_BUCKETS
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of generations.")
        self._generated_tokens = self._counter("generated_tokens", "Tokens generated for answers.")
        self._cache_outcomes = {
            "hit": self._counter("response_cache_hits", "Answers taken from the response cache."),
            "miss": self._counter("response_cache_misses", "Answers the cache did not hold."),
            "bypass": self._counter("response_cache_bypasses", "Requests that skip the cache."),
        }
        self._shared_cache_seconds = Histogram(
            "shared_cache_duration_seconds",
            "What looking up (lookup) or storing (write) an answer in the shared cache took.",
            ("operation",),
            buckets=SHARED_CACHE_BUCKETS,
            registry=self.registry,
        )
        self._cancellations = self._counter(
            "cancellations", "Generations given up because nobody waited for them any more."
        )
        self._finished = self._counter(
            "generations_finished",
            "Sequences that ended, by why (length, eos, stop, ...).",
            ("strategy", "reason"),
        )
        self._strategy_tokens = self._counter(
            "strategy_generated_tokens", "Tokens generated for answers, by strategy.", ("strategy",)
        )
        self._strategy_durations = Histogram(
            "strategy_generation_duration_seconds",
            "From submitting a generation to its end, waiting included, by strategy.",
            ("strategy",),
            buckets=STRATEGY_BUCKETS,
            registry=self.registry,
        )
        self._rejected = self._counter(
            "requests_rejected", "Requests refused before generation, by why.", ("reason",)
        )

        self._key_requests = self._counter(
            "api_key_requests", "HTTP requests answered, by API key.", ("key", "status")
        )
        self._key_tokens = self._counter(
            "api_key_tokens", "Prompt and generated tokens, by API key.", ("key",)
        )
        self._rate_limited = self._counter(
            "api_key_rate_limited", "Requests over a limit of their key.", ("key", "unit")
        )

    def request_started(self) -> None:
        """An HTTP request arrived; `request_ended` must follow, whatever happens."""
        self._in_flight.inc()

    def request_ended(self, *, endpoint: str, method: str, status: int) -> None:
        """An HTTP request was answered. `endpoint` is a route template, never a raw path."""
        self._in_flight.dec()
        folded = method if method in KNOWN_METHODS else "other"
        self._requests.labels(endpoint, folded, str(status)).inc()

    def request_timed(self, *, endpoint: str, seconds: float) -> None:
        """How long an answer took; not called for probes, whose times would hide the others'."""
        self._durations.labels(endpoint).observe(seconds)

    def cache_lookup(self, outcome: str) -> None:
        """The response cache was asked; `outcome` is "hit", "miss" or "bypass"."""
        self._cache_outcomes[outcome].inc()

    def shared_cache_timed(self, operation: str, seconds: float) -> None:
        """The shared cache took so long for a "lookup" or a "write"."""
        self._shared_cache_seconds.labels(operation).observe(seconds)

    def first_token(self, seconds: float) -> None:
        """A generation's first token came this long after it was submitted."""
        self._first_token.observe(seconds)

    def inter_token(self, seconds: float) -> None:
        """A token of a sequence came so long after the one before; called once for each token."""
        self._inter_token.observe(seconds)

    def queue_time(self, seconds: float) -> None:
        """A generation waited this long to be scheduled."""
        self._queue_time.observe(seconds)

    def inference(self, seconds: float) -> None:
        """A generation spent this long in the engine after it was scheduled."""
        self._inference.observe(seconds)

    def finished(self, strategy: str, reason: str) -> None:
        """A sequence ended. Both labels come from the strategy registry and finish reasons."""
        self._finished.labels(strategy, reason).inc()

    def answered(self, strategy: str, *, seconds: float, num_tokens: int) -> None:
        """A generation with this strategy was finished, and gave so many tokens."""
        self._strategy_durations.labels(strategy).observe(seconds)
        self._strategy_tokens.labels(strategy).inc(num_tokens)

    def loop_lag(self, seconds: float) -> None:
        """A timer of the event loop came so late."""
        self._loop_lag.observe(seconds)

    def cancelled(self) -> None:
        """A generation was given up before it finished."""
        self._cancellations.inc()

    def rejected(self, reason: str) -> None:
        """A request was refused; `reason` is an error code of `app/error_replies.py`."""
        self._rejected.labels(reason).inc()

    def key_request(self, key: str, status: int) -> None:
        """A request with this key was answered. `key` is its name: operators choose those."""
        self._key_requests.labels(key, str(status)).inc()

    def key_tokens(self, key: str, num_tokens: int) -> None:
        """A text of this key took so many tokens."""
        self._key_tokens.labels(key).inc(num_tokens)

    def rate_limited(self, *, key: str, unit: str) -> None:
        """A key had used up its "requests" or "tokens"."""
        self._rate_limited.labels(key, unit).inc()

    def tokens(self, prompt: int, generated: int) -> None:
        """A generation took `prompt` tokens in and gave `generated` tokens out."""
        self._prompt_tokens.inc(prompt)
        self._generated_tokens.inc(generated)

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, buckets=buckets, registry=self.registry)
