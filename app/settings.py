"""The service's settings: the one place that reads the environment (`BEAMLINE_*`).

The command line and `create_app` build a `Settings`; the engine and `optimize` get narrowed,
frozen pieces of it (`engine_config`, `model_spec`). Nothing is ignored: an unknown `BEAMLINE_`
variable is refused with the name that was probably meant. The model itself is not looked at here.
"""

import difflib
import os
import re
import sys
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.config import EngineConfig
from machine.cores import usable_cores
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme

ENVIRONMENT_PREFIX = "BEAMLINE_"
SERVICE_LINK = re.compile(r"BEAMLINE_(SERVICE_(HOST|PORT.*)|PORT_\d+_.*)")
CLIENT_KEY_VARIABLE = "BEAMLINE_API_KEY"  # no setting of a server, but a client's key for one
MEBIBYTE = 2**20
DEFAULT_GUESSES = 4

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0.0, le=86_400.0, allow_inf_nan=False)]
LimitSeconds = Annotated[float, Field(gt=0.0, le=86_400.0, allow_inf_nan=False)]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]
# Written with commas in between, on the command line as in the environment.
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]
Origins = Annotated[tuple[str, ...], NoDecode]

ORIGIN = re.compile(r"https?://[^/\s]+|\*")
MIN_SECRET_CHARACTERS = 32
KEY = re.compile(r"[!-+\--~]{16,256}")  # visible ASCII without commas
TLS_FILES = ("tls_cert", "tls_key", "tls_client_ca")
# What other users of the machine must not see in a list of processes.
ENVIRONMENT_ONLY = frozenset(
    {"api_keys", "admin_api_keys", "tls_key_password", "cache_redis_secret"}
)
URLS = frozenset({"rate_limit_redis", "cache_redis", "otlp_endpoint"})
REDIS_OPTIONS = frozenset(  # what the URL may say besides, as redis-py names it
    {
        *("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"),
        *("client_name", "db", "protocol"),
    }
)


def default_threads() -> int:
    """What OpenMP's own variable says, else one for each core that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(said) if said.isdecimal() and int(said) > 0 else usable_cores()


def default_otlp_endpoint() -> str | None:
    """Where OpenTelemetry's own variables say that traces go."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


class SettingsError(ValueError):
    """Settings that cannot be used; the message names each and says what it may be."""


class Settings(BaseSettings):
    """Every setting of the service: explicit values, else the environment, else the default."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    model: str | None = Field(
        default=None,
        description="Hub id, folder or GGUF file; nothing means the embedded default.",
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    device: str | None = Field(default=None, description="cpu, cuda or cuda:N.")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="Type of weights and cache on torch."
    )
    runtime: Literal["auto", "torch", "onnx"] = Field(
        default="auto",
        description="What computes the model; auto takes onnx on a CPU where it can be exported.",
    )
    weights: WeightScheme | None = Field(
        default=None, description="How onnx keeps the weights; by default w8a8. fp32 is exact."
    )
    native: bool = Field(
        default=True,
        description="On onnx, compile and use operators of our own; without them it is slower.",
    )
    operators_folder: Path | None = Field(
        default=None,
        description="Operators that `beamline operators` compiled, for a machine without compiler.",
    )
    calibration: Path | None = Field(
        default=None, description="UTF-8 text to calibrate the weights with, like those to serve."
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the model."
    )
    draft_model: str | None = Field(
        default=None,
        description="A smaller model with the same tokenizer that guesses ahead; named as --model.",
    )
    draft_revision: str | None = Field(default=None, description="Revision of the draft model.")
    num_speculative_tokens: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Guesses of the draft model at once, for requests that do not say; by default "
        f"{DEFAULT_GUESSES}. 0: only for those that ask.",
    )
    cache_folder: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("beamline")),
        description="Where converted models are kept.",
    )

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port; 0 takes a free one.")
    max_body_bytes: int = Field(
        default=4 * MEBIBYTE, ge=1024, description="Largest request body, in bytes."
    )
    grace_seconds: Seconds = Field(
        default=30.0, description="How long running requests may go on after SIGTERM."
    )
    stall_seconds: LimitSeconds = Field(
        default=120.0, description="Without a sign of the engine for so long, liveness fails."
    )
    cors_origins: Origins = Field(
        default=(),
        description="Origins whose web pages may call the API, with commas in between; * for all.",
    )
    tls_cert: Path | None = Field(
        default=None, description="Certificate chain, as PEM; the service then speaks HTTPS."
    )
    tls_key: Path | None = Field(default=None, description="Its private key, as PEM.")
    tls_key_password: SecretStr | None = Field(default=None, description="What that is under.")
    tls_client_ca: Path | None = Field(
        default=None, description="Only clients with a certificate of this authority may connect."
    )
    log_level: LogLevel = Field(default="info", description="Least important line to log.")
    log_format: LogFormat = Field(default="text", description="text, or json: an object a line.")
    access_log: bool = Field(default=True, description="Log a line for each request.")
    log_prompts: bool = Field(
        default=False,
        description="Put the beginning of prompts and answers into that line; else none of it.",
    )
    otlp_endpoint: str | None = Field(
        default_factory=default_otlp_endpoint,
        pattern="^https?://.+",
        description="URL of an OTLP/HTTP collector that traces are sent to; "
        "by default OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    metrics_compat: Literal["vllm"] | None = Field(
        default=None,
        description="Give the gauges that balancers read a second time, under vLLM's names.",
    )
    sse_keep_alive_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = Field(
        default=15.0,
        description="Silence in a stream after which a comment is sent, against proxies' timeouts.",
    )

    keys_file: Path | None = Field(
        default=None, description="API keys, as `beamline keys` writes them; nobody else may ask."
    )
    api_keys: Secrets = Field(
        default=(), description="API keys that may generate, with commas in between."
    )
    admin_api_keys: Secrets = Field(
        default=(), description="The same, for keys that may do everything."
    )
    requests_per_minute: PerMinute | None = Field(
        default=None, description="Requests of a key in a minute, if it has no limit of its own."
    )
    tokens_per_minute: PerMinute | None = Field(
        default=None,
        description="The same for tokens, those of prompts included; by default there is no limit.",
    )
    rate_limit_redis: str | None = Field(
        default=None, description="URL of a Redis in which replicas count together."
    )
    public_metrics: bool = Field(default=False, description="GET /metrics needs no key.")

    max_prompt_tokens: Count | None = Field(
        default=None, description="Tokens of a prompt; by default the model's context."
    )
    max_new_tokens: Count | None = Field(
        default=None, description="New tokens of a text; by default the model's context."
    )
    max_sequences: Count | None = Field(
        default=None,
        description="Beams or samples of a text at once; by default as many as a step computes.",
    )
    max_texts: Annotated[int, Field(ge=1, le=128)] = Field(
        default=128, description="Texts in one request."
    )
    max_stops: Annotated[int, Field(ge=0, le=16)] = Field(
        default=16, description="Stop strings of a text."
    )

    max_rows: Count = Field(default=64, description="Sequences in one step.")
    max_step_tokens: Count = Field(default=512, description="Tokens computed in one step.")
    max_waiting_requests: Count = Field(
        default=256, description="Requests that may queue; more are refused with a 503."
    )
    timeout_seconds: float | None = Field(
        default=None,
        gt=0.0,
        le=86_400.0,
        description="Time of a request that brings no timeout of its own.",
    )
    max_timeout_seconds: float | None = Field(
        default=None,
        gt=0.0,
        le=86_400.0,
        description="Most time of any request; a longer timeout is refused.",
    )
    queue_timeout_seconds: float | None = Field(
        default=None,
        gt=0.0,
        le=86_400.0,
        description="Time to begin a request that brings no queue_timeout.",
    )
    min_priority: int | None = Field(
        default=None,
        description="Most urgent priority a request may ask for; with 0 nobody can jump the queue.",
    )
    seconds_per_priority: LimitSeconds = Field(
        default=60.0,
        description="What a step of priority is worth: it counts as having come so much later.",
    )
    block_size: int = Field(
        default=16, ge=1, le=1024, description="Tokens in a KV cache block of torch."
    )
    threads: int = Field(
        default_factory=default_threads,
        ge=1,
        le=1024,
        description="Threads that compute on a CPU; by default OMP_NUM_THREADS or all cores.",
    )
    kv_cache_bytes: int | None = Field(
        default=None, ge=MEBIBYTE, description="Size of the KV cache; by default from free memory."
    )
    tensor_parallel_size: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that compute the model together on torch, each on its own device.",
    )

    response_cache_entries: int = Field(
        default=1024, ge=0, le=10_000_000, description="Answers kept; 0 keeps none."
    )
    response_cache_bytes: int = Field(
        default=64 * MEBIBYTE, ge=0, description="Most memory those answers take."
    )
    cache_across_keys: bool = Field(
        default=False,
        description="API keys are answered from each other's answers; by default only their own.",
    )
    cache_redis: str | None = Field(
        default=None, description="URL of a Redis in which replicas share answers."
    )
    cache_redis_ttl_seconds: Annotated[float, Field(ge=1.0, le=31_536_000.0)] = Field(
        default=3600.0, description="How long an answer stays there."
    )
    cache_redis_timeout_seconds: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        default=0.05, description="The longest that a request waits for it."
    )
    cache_redis_entry_bytes: int = Field(
        default=MEBIBYTE, ge=1024, le=64 * MEBIBYTE, description="Largest answer stored there."
    )
    cache_redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,64}$")] = Field(
        default="beamline:answers", description="What names there begin with."
    )
    cache_redis_secret: SecretStr | None = Field(
        default=None, description="What replicas seal their answers with."
    )
    max_jobs: Count = Field(default=1024, description="Asynchronous jobs kept, done or not.")
    job_ttl_seconds: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = Field(
        default=3600.0, description="How long a finished job can be fetched."
    )
    text_threads: int = Field(default=2, ge=1, le=256, description="Threads that tokenise.")
    max_pending_texts: Count = Field(
        default=512, description="Texts that may wait for a thread; more are refused with a 503."
    )

    @field_validator("api_keys", "admin_api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return tuple(part.strip() for part in given.split(",") if part.strip())

    @field_validator("api_keys", "admin_api_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(KEY.fullmatch(key.get_secret_value()) for key in keys):
            raise ValueError(
                "a key has 16 to 256 visible ASCII characters; "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one"
            )
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("an origin is like https://example.org, without a path, or *")
        return origins

    @field_validator("rate_limit_redis", "cache_redis")
    @classmethod
    def _check_redis(cls, url: str | None) -> str | None:
        if url is not None and not _is_redis(url):
            raise ValueError("should be like redis://host:6379/0, or rediss:// for TLS")
        return url

    @field_validator("cache_redis")
    @classmethod
    def _check_redis_options(cls, url: str | None) -> str | None:
        options = urllib.parse.parse_qs(urllib.parse.urlsplit(url or "").query)
        unknown = sorted(set(options) - REDIS_OPTIONS)
        if unknown:
            raise ValueError(
                f"{unknown[0][:40]!r} is no option of it; there are "
                f"{', '.join(sorted(REDIS_OPTIONS))}"
            )
        return url

    @field_validator("cache_redis_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < MIN_SECRET_CHARACTERS:
            raise ValueError(
                f"a secret has at least {MIN_SECRET_CHARACTERS} characters; "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one"
            )
        return secret

    @field_validator("cache_folder", "operators_folder", "calibration", "keys_file", *TLS_FILES)
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("operators_folder")
    @classmethod
    def _check_operators(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError("is no folder: `beamline operators` makes one")
        return folder

    @model_validator(mode="after")
    def _rows_fit_in_a_step(self) -> Self:
        if self.max_rows > self.max_step_tokens:
            raise ValueError(
                f"max_rows ({self.max_rows}) must not exceed max_step_tokens "
                f"({self.max_step_tokens}): each row computes one token a step"
            )
        return self

    @model_validator(mode="after")
    def _drafts_need_a_model(self) -> Self:
        for name in ("draft_revision", "num_speculative_tokens"):
            if self.draft_model is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of no use without draft_model")
        return self

    @model_validator(mode="after")
    def _shards_go_without_a_draft_model(self) -> Self:
        if self.tensor_parallel_size > 1 and self.draft_model is not None:
            raise ValueError("tensor_parallel_size does not go with draft_model: leave one out")
        return self

    @property
    def default_guesses(self) -> int:
        """How many tokens are guessed at once for requests that do not say."""
        if self.draft_model is None:
            return 0
        given = self.num_speculative_tokens
        return DEFAULT_GUESSES if given is None else given

    @property
    def draft_settings(self) -> Self | None:
        """Settings that load the draft model: on the same device, by the runtime that suits it.

        Its answers need not be exact, so it keeps its weights as they are fastest.
        """
        if self.draft_model is None:
            return None
        own = {"model": self.draft_model, "revision": self.draft_revision, "runtime": "auto"}
        others = dict.fromkeys(
            ("weights", "calibration", "draft_model", "draft_revision", "num_speculative_tokens")
        )
        return self.model_copy(update=own | others)

    @model_validator(mode="after")
    def _default_time_is_allowed(self) -> Self:
        default, longest = self.timeout_seconds, self.max_timeout_seconds
        if default is not None and longest is not None and default > longest:
            raise ValueError(
                f"timeout_seconds ({default:g}) must not exceed max_timeout_seconds ({longest:g})"
            )
        return self

    @model_validator(mode="after")
    def _limits_have_keys(self) -> Self:
        limits = ("requests_per_minute", "tokens_per_minute", "rate_limit_redis")
        given = [name for name in limits if getattr(self, name) is not None]
        if given and not self.has_keys:
            raise ValueError(
                f"{given[0]} counts by API key, and there are none: set keys_file or api_keys"
            )
        if self.cache_across_keys and not self.has_keys:
            raise ValueError("cache_across_keys has no effect without API keys")
        return self

    @model_validator(mode="after")
    def _shared_cache_has_a_place(self) -> Self:
        given = sorted(n for n in self.model_fields_set if n.startswith("cache_redis_"))
        if given and self.cache_redis is None:
            raise ValueError(f"{given[0]} has no effect without cache_redis")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if self.tls_cert is None:
            rest = ("tls_key", "tls_key_password", "tls_client_ca")
            given = [name for name in rest if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{given[0]} has no effect without tls_cert")
        return self

    @property
    def has_keys(self) -> bool:
        """Whether requests need an API key; so it is also with a file that holds none yet."""
        return bool(self.keys_file or self.api_keys or self.admin_api_keys)

    @property
    def engine_config(self) -> EngineConfig:
        """What the engine needs of the settings."""
        return EngineConfig(
            max_rows=self.max_rows,
            max_step_tokens=self.max_step_tokens,
            max_waiting_requests=self.max_waiting_requests,
            seconds_per_priority=self.seconds_per_priority,
            block_size=self.block_size,
            kv_cache_bytes=self.kv_cache_bytes,
            num_threads=self.threads,
        )

    @property
    def model_spec(self) -> ModelSpec:
        """What `optimize` needs of the settings."""
        return ModelSpec(
            source=self.model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            cache_folder=self.cache_folder,
        )


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from the environment, with `overrides` (by field name) on top.

    Raises:
        SettingsError: a value is out of range or a `BEAMLINE_` variable is unknown.
    """
    _refuse_unknown_variables(os.environ)
    try:
        return Settings.model_validate(dict(overrides or {}))  # reads the environment as well
    except ValidationError as error:
        raise SettingsError(_describe(error)) from error


def threading_variables() -> dict[str, str]:
    """What the environment tells the libraries that compute about threads."""
    prefixes = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def client_key() -> str | None:
    """The key for somebody else's server that the environment holds, if it does."""
    return os.environ.get(CLIENT_KEY_VARIABLE) or None


def limit_spinning() -> None:
    """Let torch's idle threads sleep sooner. Call before torch is imported; the user's word wins.

    GNU OpenMP spins for milliseconds at the end of each parallel loop. Where other processes want
    the cores too, that made steps 3 to 10 times slower; with a short spin they lose a few percent
    on an idle machine and little on a busy one.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def shard_environment(rank: int) -> dict[str, str]:
    """What another process of a model that is split gets; transformers reads its device there."""
    return {**os.environ, "LOCAL_RANK": str(rank)}


def keep_collectives_local() -> None:
    """Have the processes of a model talk over the loopback interface, unless the user says else.

    What they say is neither encrypted nor checked, and they are all on this machine.
    """
    os.environ["LOCAL_RANK"] = "0"  # our own device is the first, whatever started us
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")


def _is_redis(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        is_place = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
    has_database = re.fullmatch(r"(/\d*)?", parts.path) is not None
    return parts.scheme in ("redis", "rediss") and is_place and has_database


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    known.add(CLIENT_KEY_VARIABLE)
    given = (name for name in names if name.upper().startswith(ENVIRONMENT_PREFIX))
    unknown = sorted(name for name in given if name.upper() not in known)
    if unknown:
        raise SettingsError("\n".join(_unknown_variable(name, known) for name in unknown))


def _unknown_variable(name: str, known: Iterable[str]) -> str:
    if SERVICE_LINK.fullmatch(name):
        return (
            f"environment variable {name} is Kubernetes' link to a Service named beamline: "
            "set enableServiceLinks: false in the pod, or name the Service otherwise"
        )
    close = difflib.get_close_matches(name.upper(), sorted(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "`beamline serve --help` lists the settings."
    return f"environment variable {name} is not a setting of Beamline: {hint}"


def _describe(error: ValidationError) -> str:
    """One line a mistake: the option, the variable, what is wrong and what was given."""
    return "\n".join(
        _describe_one(".".join(str(part) for part in mistake["loc"]), mistake["msg"], mistake)
        for mistake in error.errors(include_url=False, include_context=False)
    )


def _describe_one(field: str, message: str, mistake: ErrorDetails) -> str:
    if not field:
        return message.removeprefix("Value error, ")
    variable = ENVIRONMENT_PREFIX + field.upper()
    message = message.removeprefix("Value error, ")
    if field.partition(".")[0] in ENVIRONMENT_ONLY:  # a secret, which no log may hold
        return f"{variable}: {message}"
    option = field.replace("_", "-")
    if field in URLS:  # which may hold passwords
        return f"--{option} ({variable}): {message}"
    given = repr(mistake["input"])[:80]
    return f"--{option} ({variable}): {message}; it is {given}"
