"""Whether a request fits the model and the engine that would run it.

`preparation.py` and `judge.py` ask on a text thread. Each refusal names the field, gives the
numbers and says what to do. What an operator allows is in `request_limits.py`, and checked here
beside what is possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import InvalidRequest
from app.generation.request_limits import RequestLimits
from app.text.request import TextRequest
from decoding.base import Strategy, has_independent_rows, needs_hidden_states
from engine.messages import EngineLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFit:
    """The limits of one model on one engine. Any thread may use it."""

    limits: EngineLimits
    request_limits: RequestLimits

    def check_rows(self, request: TextRequest) -> None:
        """Refuse more sequences at once than are allowed, or than a step computes.

        Raises:
            InvalidRequest: naming the parameter that sets their number.
        """
        param = _rows_field(request)
        self.request_limits.check_sequences(request.strategy.num_rows, param=param)
        if request.num_rows > self.limits.max_rows:
            raise InvalidRequest(
                f"This request needs {request.num_rows} sequences at once; this server runs at "
                f"most {self.limits.max_rows} in a batch. Ask for fewer.",
                param=param,
                code="too_many_sequences",
            )

    def check_abilities(self, request: TextRequest) -> None:
        """Refuse what the runtime cannot do for any prompt.

        Raises:
            InvalidRequest: naming the field.
        """
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
        if request.num_speculative_tokens:
            self._check_draft_model(request.strategy)
        if request.prompt_logprobs is not None:
            self.check_scoring("prompt_logprobs")

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

    def check_negative_prompt(self, ids: Sequence[int], max_new_tokens: int) -> None:
        """Refuse a negative prompt after which there is no room for the new tokens.

        Raises:
            InvalidRequest: naming `negative_prompt`.
        """
        self.check_vocabulary(ids, "negative_prompt")
        self.request_limits.check_prompt(len(ids), param="negative_prompt")
        if len(ids) + max_new_tokens > self.limits.context_length:
            raise InvalidRequest(
                f"{len(ids)} tokens and {max_new_tokens} new ones exceed the model's "
                f"context of {self.limits.context_length} tokens; shorten it.",
                param="negative_prompt",
                code="context_length_exceeded",
            )

    def new_tokens(self, request: TextRequest, num_prompt: int) -> int:
        """How many tokens may be generated after a prompt of so many.

        Raises:
            InvalidRequest: the context cannot hold them, or nobody may ask for so many.
        """
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
        num_cached = limits.max_cached_tokens // request.num_rows - limits.block_size
        room = max(1, min(limits.context_length, num_cached) - num_prompt)
        return min(room, self.request_limits.max_new_tokens or room)

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

    def _check_draft_model(self, strategy: Strategy) -> None:
        self._check_speculation(strategy, "num_speculative_tokens")
        if not self.limits.has_draft_model:
            raise InvalidRequest(
                "This server has no draft model (--draft-model); leave this out.",
                param="num_speculative_tokens",
                code="unsupported",
            )


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


def _rows_field(request: TextRequest) -> str | None:
    """The parameter that sets the number of rows, found by its value: a `num_` one, if any."""
    parameters = request.strategy_parameters.items()
    counts = sorted(parameters, key=lambda item: "num_" not in item[0])
    return next((name for name, value in counts if value == request.strategy.num_rows), None)
