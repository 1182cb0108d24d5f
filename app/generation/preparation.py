"""From a request for text to what the engine needs: token ids, lengths, seed, cache key.

`TextGenerator` calls `prepare` on a text thread. Everything about a request that can be refused
without the engine is refused here, naming the field and giving the numbers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version

from app.errors import InvalidRequest
from app.generation.adjustments import AdjustmentTranslator
from app.generation.call_grammars import CallGrammars
from app.generation.request_limits import RequestLimits
from app.text.codec import TextCodec
from app.text.grammar.spec import GrammarSpec
from app.text.request import TextRequest, TokenPrompt
from app.text.stop_strings import StopStrings
from decoding.adjustments import Adjustments
from decoding.base import (
    ChecksTask,
    PhrasesOf,
    Strategy,
    Task,
    has_independent_rows,
    needs_hidden_states,
)
from decoding.constraint import TokenConstraint
from engine.messages import EngineLimits, GenerationRequest, NegativePrompt
from engine.trace import TraceOptions
from engine.urgency import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which weights, computed by what. Part of every cache key."""

    name: str
    revision: str
    runtime: str

    @property
    def fingerprint(self) -> str:
        """One word for all that decides the tokens of a request besides the request itself."""
        whole = "\n".join((self.name, self.revision, self.runtime, version("beamline")))
        return "fp_" + hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """Everything that decides which tokens come out, and nothing of how they are presented."""

    model: ModelIdentity
    prompt_ids: tuple[int, ...]
    strategy: str
    parameters: tuple[tuple[str, str], ...]  # names and how their values are written
    max_new_tokens: int
    stop: tuple[str, ...]
    keeps_stop: bool
    adjustments: tuple[tuple[str, object], ...]  # those asked for, by name
    grammar: GrammarSpec | None
    guidance: NegativePrompt | None
    top_logprobs: int
    prompt_logprobs: int | None
    trace: TraceOptions | None
    seed: int | None  # None where it does not matter, or where any will do
    tenant: bytes | None = None  # the API key's digest; None: everybody shares


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request that fits the model, with its prompt tokenised."""

    request: TextRequest
    prompt_text: str
    prompt_ids: tuple[int, ...]
    context: tuple[int, ...]  # the prompt tokens that the continuation is decoded after
    max_new_tokens: int
    stop_check: StopStrings | None
    adjustments: Adjustments
    shown_ids: frozenset[int]  # special tokens that its text shows
    constraint: TokenConstraint | None
    guidance: NegativePrompt | None
    phrases_of: PhrasesOf
    num_speculative_tokens: int
    cache_key: CacheKey | None  # None: neither looked up nor stored

    @property
    def is_determined(self) -> bool:
        """Whether whoever computes it gets the same; not so for a draw without a seed."""
        return self.request.strategy.is_deterministic or self.request.seed is not None

    def owned_by(self, tenant: bytes) -> "PreparedRequest":
        """The same, sharing its answer with requests of this tenant only."""
        key = self.cache_key
        return self if key is None else replace(self, cache_key=replace(key, tenant=tenant))

    @property
    def num_rows(self) -> int:
        """Sequences that are computed; guided ones count twice."""
        return self.request.strategy.num_rows * (1 if self.guidance is None else 2)

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens that are read before the first new one."""
        negative = () if self.guidance is None else self.guidance.prompt_ids
        return len(self.prompt_ids) + len(negative)

    @property
    def max_num_tokens(self) -> int:
        """The most tokens that answering may take, those of all rows together."""
        return self.num_prompt_tokens + self.num_rows * self.max_new_tokens

    def as_generation(
        self, *, request_id: str, seed: int, urgency: Urgency, eos_token_ids: frozenset[int]
    ) -> GenerationRequest:
        """What the engine is asked; the time that `urgency` gives is what is left of it."""
        return GenerationRequest(
            request_id=request_id,
            prompt_ids=self.prompt_ids,
            strategy=self.request.strategy,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            urgency=urgency,
            eos_token_ids=eos_token_ids,
            stop=self.stop_check,
            adjustments=self.adjustments,
            guidance=self.guidance,
            lookup=self.request.lookup,
            num_speculative_tokens=self.num_speculative_tokens,
            num_alternatives=self.request.top_logprobs,
            scored_from=None if self.request.prompt_logprobs is None else 1,
            num_prompt_alternatives=self.request.prompt_logprobs or 0,
            trace=self.request.trace,
            constraint=self.constraint,
            phrases_of=self.phrases_of,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """What stays the same from request to request."""

    codec: TextCodec
    limits: EngineLimits
    model: ModelIdentity
    translator: AdjustmentTranslator
    calls: CallGrammars
    request_limits: RequestLimits
    default_guesses: int = 0  # of the draft model at once, for requests that do not say

    def prepare(self, request: TextRequest) -> PreparedRequest:
        """Tokenise a request and check that it can be served. Blocks; call it on a text thread.

        Raises:
            InvalidRequest: it does not fit the model or the engine; names the field.
        """
        self._check_rows(request)
        self.request_limits.check_stops(len(request.stop))
        if request.deterministic and not self.limits.is_deterministic:
            raise InvalidRequest(
                "This server's runtime may round otherwise in another batch, so it cannot promise "
                "the same bits; leave this out, or ask a server on its CPU runtime.",
                param="deterministic",
                code="unsupported",
            )
        if needs_hidden_states(request.strategy) and not self.limits.has_hidden_states:
            raise InvalidRequest(
                f"Strategy {request.strategy.name} compares hidden states, which this server's "
                "runtime does not give; use another strategy.",
                param="strategy",
                code="unsupported",
            )
        if request.lookup is not None:
            self._check_speculation(request.strategy, "prompt_lookup_num_tokens")
        num_speculative_tokens = self._num_speculative_tokens(request)
        if request.prompt_logprobs is not None:
            self.check_scoring("prompt_logprobs")
        prompt_text, prompt_ids = self._tokenize(request)
        max_new_tokens = self._new_tokens(request, len(prompt_ids))
        self._check_task(request, max_new_tokens)
        context = self.codec.context_of(prompt_ids)
        stop_check = self._stop_check(request, context)
        grammar = self.calls.grammar_of(request)
        is_cacheable = _is_cacheable(request)
        guidance = self._guidance(request, prompt_ids, max_new_tokens)
        key = (
            self._key_of(request, prompt_ids, max_new_tokens, guidance, grammar)
            if is_cacheable
            else None
        )
        return PreparedRequest(
            request=request,
            prompt_text=prompt_text,
            prompt_ids=prompt_ids,
            context=context,
            max_new_tokens=max_new_tokens,
            stop_check=stop_check,
            adjustments=self.translator.translate(request.adjustments, max_new_tokens),
            shown_ids=self.calls.shown_ids if request.tools is not None else frozenset(),
            constraint=self.calls.constraint(request, grammar),
            guidance=guidance,
            phrases_of=self.translator.phrases_of,
            num_speculative_tokens=num_speculative_tokens,
            cache_key=key,
        )

    def _check_rows(self, request: TextRequest) -> None:
        self.request_limits.check_sequences(
            request.strategy.num_rows, param=_rows_field(request.strategy)
        )
        num_rows = self._num_rows(request)
        if num_rows > self.limits.max_rows:
            raise InvalidRequest(
                f"This request needs {num_rows} sequences at once; this server runs at "
                f"most {self.limits.max_rows} in a batch. Ask for fewer.",
                param=_rows_field(request.strategy),
                code="too_many_sequences",
            )

    def _num_rows(self, request: TextRequest) -> int:
        return request.strategy.num_rows * (1 if request.guidance_scale == 1.0 else 2)

    def _check_task(self, request: TextRequest, max_new_tokens: int) -> None:
        if isinstance(request.strategy, ChecksTask):
            request.strategy.check_task(
                Task(
                    max_new_tokens=max_new_tokens,
                    seed=0,
                    phrases_of=self.translator.phrases_of,
                    depth=self.limits.depth,
                )
            )

    def _guidance(
        self, request: TextRequest, prompt_ids: tuple[int, ...], max_new_tokens: int
    ) -> NegativePrompt | None:
        if request.guidance_scale == 1.0:
            return None
        negative_ids = prompt_ids[-1:]
        if request.negative_prompt is not None:
            negative_ids = self.codec.encode(request.negative_prompt)
            self.check_vocabulary(negative_ids, "negative_prompt")
            self.request_limits.check_prompt(len(negative_ids), param="negative_prompt")
            if len(negative_ids) + max_new_tokens > self.limits.context_length:
                raise InvalidRequest(
                    f"{len(negative_ids)} tokens and {max_new_tokens} new ones exceed the model's "
                    f"context of {self.limits.context_length} tokens; shorten it.",
                    param="negative_prompt",
                    code="context_length_exceeded",
                )
        return NegativePrompt(prompt_ids=negative_ids, scale=request.guidance_scale)

    def _stop_check(self, request: TextRequest, context: tuple[int, ...]) -> StopStrings | None:
        if not request.stop:
            return None
        codec = self.codec if request.tools is None else self.codec.showing(self.calls.shown_ids)
        return StopStrings(request.stop, codec, context)

    def check_prompt_ids(self, ids: Sequence[int], param: str) -> None:
        """Refuse a prompt that the model or its context does not hold.

        Raises:
            InvalidRequest: naming `param`.
        """
        self.check_vocabulary(ids, param)
        self.request_limits.check_prompt(len(ids), param=param)
        if len(ids) >= self.limits.context_length:
            raise InvalidRequest(
                f"{len(ids)} tokens with the prompt exceed the model's context of "
                f"{self.limits.context_length} tokens; shorten it.",
                param=param,
                code="context_length_exceeded",
            )

    def check_scoring(self, param: str) -> None:
        """Refuse to score a prompt's tokens where the runtime gives no logits for it.

        Raises:
            InvalidRequest: naming `param`.
        """
        if not self.limits.has_all_logits:
            raise InvalidRequest(
                "This server's runtime gives no log-probabilities within a prompt; leave this out.",
                param=param,
                code="unsupported",
            )

    def _num_speculative_tokens(self, request: TextRequest) -> int:
        """What the draft model guesses at once: as asked for, else as set where it is possible."""
        asked = request.num_speculative_tokens
        if asked is None:
            is_possible = has_independent_rows(request.strategy) and request.guidance_scale == 1.0
            return self.default_guesses if is_possible else 0
        if asked > 0:
            self._check_speculation(request.strategy, "num_speculative_tokens")
            if not self.limits.has_draft_model:
                raise InvalidRequest(
                    "This server has no draft model (--draft-model); leave this out.",
                    param="num_speculative_tokens",
                    code="unsupported",
                )
        return asked

    def _check_speculation(self, strategy: Strategy, param: str) -> None:
        if not has_independent_rows(strategy):
            raise InvalidRequest(
                f"Strategy {strategy.name} chooses by looking at more than one row or step, so "
                "guesses cannot speed it up; leave this out, or use greedy or plain sampling.",
                param=param,
                code="unsupported",
            )
        if not self.limits.has_all_logits:
            raise InvalidRequest(
                "This server's runtime decides one token of a text at a time; leave this out.",
                param=param,
                code="unsupported",
            )

    def _tokenize(self, request: TextRequest) -> tuple[str, tuple[int, ...]]:
        match request.prompt:
            case str(text):
                ids = self.codec.encode(text)
            case TokenPrompt(ids=ids):
                self.check_vocabulary(ids, request.prompt_field)
                text = self.codec.spell(ids)
            case conversation:
                functions = () if request.tools is None else request.tools.functions
                text = self.codec.render(conversation, functions)
                ids = self.codec.encode(text, has_special_tokens=True)
        if not ids and self.codec.bos_token_id is not None:
            ids = (self.codec.bos_token_id,)
        self.check_vocabulary(ids, request.prompt_field)
        read_ids = ids[-(request.truncate_prompt_tokens or len(ids)) :]
        self.request_limits.check_prompt(len(read_ids), param=request.prompt_field)
        return text, read_ids

    def check_vocabulary(self, ids: Sequence[int], param: str) -> None:
        """Refuse an empty prompt, and tokens that the model does not have.

        Raises:
            InvalidRequest: naming `param`.
        """
        if not ids:
            raise InvalidRequest(
                "The prompt is empty and this model has no token to begin with; send some text.",
                param=param,
                code="empty_prompt",
            )
        if max(ids) >= self.limits.vocab_size:
            raise InvalidRequest(
                f"The prompt holds token {max(ids)}, and this model's ids end at "
                f"{self.limits.vocab_size - 1}; leave it out.",
                param=param,
                code="unknown_token",
            )

    def _new_tokens(self, request: TextRequest, num_prompt: int) -> int:
        """How many tokens may be generated; refuses what the context cannot hold."""
        limit = self.limits.context_length
        if request.max_length is not None:
            _check_max_length(request.max_length, num_prompt, limit)
            wanted = request.max_length - num_prompt
            self.request_limits.check_new_tokens(wanted, param="max_length")
            return wanted
        wanted = request.max_new_tokens or self._room(request, num_prompt)
        self.request_limits.check_new_tokens(wanted, param="max_new_tokens")
        if num_prompt + wanted > limit:
            room = limit - num_prompt
            remedy = f"ask for at most {room} new tokens" if room > 0 else "shorten the prompt"
            raise InvalidRequest(
                f"{num_prompt} prompt tokens and {wanted} new ones exceed the model's context "
                f"of {limit} tokens; {remedy}.",
                param="max_new_tokens" if room > 0 else request.prompt_field,
                code="context_length_exceeded",
            )
        return wanted

    def _room(self, request: TextRequest, num_prompt: int) -> int:
        """The most new tokens that there is room for after the prompt, and that are allowed."""
        limits = self.limits
        num_cached = limits.max_cached_tokens // self._num_rows(request) - limits.block_size
        room = max(1, min(limits.context_length, num_cached) - num_prompt)
        return min(room, self.request_limits.max_new_tokens or room)

    def _key_of(
        self,
        request: TextRequest,
        prompt_ids: tuple[int, ...],
        max_new_tokens: int,
        guidance: NegativePrompt | None,
        grammar: GrammarSpec | None,
    ) -> CacheKey:
        strategy = request.strategy
        return CacheKey(
            model=self.model,
            prompt_ids=prompt_ids,
            strategy=strategy.name,
            parameters=tuple((n, repr(v)) for n, v in strategy_parameters(strategy).items()),
            max_new_tokens=max_new_tokens,
            stop=tuple(sorted(request.stop)),
            keeps_stop=request.keeps_stop,
            adjustments=tuple(request.adjustments.asked_for.items()),
            grammar=grammar,
            guidance=guidance,
            top_logprobs=request.top_logprobs,
            prompt_logprobs=request.prompt_logprobs,
            trace=request.trace,
            seed=None if strategy.is_deterministic else request.seed,
        )


def strategy_parameters(strategy: Strategy) -> dict[str, object]:
    """A strategy's parameters by name, defaults filled in."""
    names = [field.name for field in fields(strategy)]  # type: ignore[arg-type]
    return {name: getattr(strategy, name) for name in names}


def _is_cacheable(request: TextRequest) -> bool:
    if request.cache is None:
        return request.strategy.is_deterministic or request.seed is not None
    return request.cache


def _check_max_length(max_length: int, num_prompt: int, limit: int) -> None:
    if max_length > limit:
        raise InvalidRequest(
            f"max_length {max_length} exceeds the model's context of {limit} tokens "
            f"(the prompt has {num_prompt}); lower it.",
            param="max_length",
            code="context_length_exceeded",
        )
    if max_length <= num_prompt:
        raise InvalidRequest(
            f"max_length {max_length} leaves no room for new tokens after {num_prompt} prompt "
            "tokens; raise it, or set max_new_tokens.",
            param="max_length",
        )


def _rows_field(strategy: Strategy) -> str | None:
    """The parameter that sets the number of rows, found by its value: a `num_` one, if any."""
    counts = sorted(strategy_parameters(strategy).items(), key=lambda item: "num_" not in item[0])
    return next((name for name, value in counts if value == strategy.num_rows), None)
