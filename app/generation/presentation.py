"""A finished generation as the body a client gets, in the way its request asked for.

Answers, streams and jobs use the one `Presenter` of the service, so a cached answer differs from
a fresh one only in `cached` and in the times.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from app.bodies.schemas import (
    Details,
    GenerateResponse,
    GenerationTimings,
    LikelyToken,
    SequenceResult,
    ShownToken,
)
from app.generation.completion import Completed, FinishedText
from app.generation.prepared_request import PreparedRequest
from app.generation.subscription import CacheOutcome, Subscription
from app.generation.trace_presentation import present_trace
from app.text.adjustments import TextAdjustments
from app.text.codec import TextCodec
from app.text.grammar.spec import GrammarKind, GrammarSpec
from decoding.base import Alternatives, TokenScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Presenter:
    """Builds response bodies."""

    codec: TextCodec
    model_name: str
    fingerprint: str
    clock: Callable[[], float]

    def present(self, subscription: Subscription, completed: Completed) -> GenerateResponse:
        """The response to the request that opened this subscription."""
        prepared = subscription.prepared
        request = prepared.request
        first = completed.sequences[0]
        has_several = len(completed.sequences) > 1
        total_seconds = self.clock() - subscription.received_at
        return GenerateResponse(
            generated_text=_text(prepared, first),
            input_length=len(prepared.prompt_ids),
            output_length=_length(prepared, first),
            finish_reason=first.finish_reason,
            strategy=request.strategy.name,
            parameters=_parameters(prepared),
            seed=request.seed if request.strategy.is_deterministic else completed.seed,
            cached=subscription.outcome is CacheOutcome.HIT,
            model=self.model_name,
            fingerprint=self.fingerprint,
            score=first.score,
            sequences=_sequences(prepared, completed) if has_several else None,
            details=self._details(prepared, completed, total_seconds) if request.details else None,
        )

    def _details(
        self, prepared: PreparedRequest, completed: Completed, total_seconds: float
    ) -> Details:
        timings = completed.timings
        num_tokens = sum(len(sequence.token_ids) for sequence in completed.sequences)
        engine_seconds = timings.prefill_seconds + timings.decode_seconds
        return Details(
            timings=GenerationTimings(
                queue_seconds=timings.queue_seconds,
                prefill_seconds=timings.prefill_seconds,
                decode_seconds=timings.decode_seconds,
                total_seconds=total_seconds,
                tokens_per_second=num_tokens / engine_seconds if engine_seconds > 0 else 0.0,
            ),
            num_cached_prompt_tokens=timings.num_cached_tokens,
            num_preemptions=timings.num_preemptions,
            tokens=[self._tokens(sequence) for sequence in completed.sequences],
            prompt_tokens=self._prompt_tokens(prepared, completed),
            trace=None
            if completed.trace is None
            else present_trace(completed.trace, self.codec.token_text),
        )

    def _tokens(self, sequence: FinishedText) -> list[ShownToken]:
        alternatives = sequence.alternatives or [None] * len(sequence.token_ids)
        return [
            self._token(token_id, logprob, likely)
            for token_id, logprob, likely in zip(
                sequence.token_ids, sequence.logprobs, alternatives, strict=True
            )
        ]

    def _prompt_tokens(
        self, prepared: PreparedRequest, completed: Completed
    ) -> list[ShownToken] | None:
        """The first token follows nothing, so it has no probability."""
        count = prepared.request.prompt_logprobs
        if count is None:
            return None
        first = self._token(prepared.prompt_ids[0], None, None)
        return [first, *self.scored_tokens(completed.prompt_scores, has_alternatives=count > 0)]

    def scored_tokens(
        self, scores: Sequence[TokenScore], *, has_alternatives: bool
    ) -> list[ShownToken]:
        """Given tokens with how likely they were."""
        return [
            self._token(
                score.token_id, score.logprob, score.alternatives if has_alternatives else None
            )
            for score in scores
        ]

    def _token(
        self, token_id: int, logprob: float | None, likely: Alternatives | None
    ) -> ShownToken:
        text = self.codec.token_text
        return ShownToken(
            id=token_id,
            text=text(token_id),
            logprob=logprob,
            top_logprobs=None
            if likely is None
            else [LikelyToken(id=each, text=text(each), logprob=p) for each, p in likely],
        )


def _text(prepared: PreparedRequest, sequence: FinishedText) -> str:
    """As transformers' text-generation pipeline: the prompt itself, then the new text."""
    prompt = prepared.prompt_text if prepared.request.return_full_text else ""
    return prompt + sequence.text


def _length(prepared: PreparedRequest, sequence: FinishedText) -> int:
    return len(prepared.prompt_ids) + len(sequence.token_ids)


def _sequences(prepared: PreparedRequest, completed: Completed) -> list[SequenceResult]:
    return [
        SequenceResult(
            index=index,
            generated_text=_text(prepared, sequence),
            output_length=_length(prepared, sequence),
            finish_reason=sequence.finish_reason,
            score=sequence.score,
        )
        for index, sequence in enumerate(completed.sequences)
    ]


def _parameters(prepared: PreparedRequest) -> dict[str, JsonValue]:
    request = prepared.request
    effective = request.strategy_parameters | _adjustments(request.adjustments)
    parameters: dict[str, JsonValue] = to_jsonable_python(effective)
    if request.grammar is not None:
        parameters["structured_outputs"] = _grammar(request.grammar)
    if request.guidance_scale != 1.0:
        parameters["guidance_scale"] = request.guidance_scale
        parameters["negative_prompt"] = request.negative_prompt
    if request.lookup is not None:
        parameters["prompt_lookup_num_tokens"] = request.lookup.num_tokens
        parameters["max_matching_ngram_size"] = request.lookup.max_ngram_size
    if request.num_speculative_tokens is not None:
        parameters["num_speculative_tokens"] = request.num_speculative_tokens
    if request.keeps_stop:
        parameters["include_stop_str_in_output"] = True
    if request.truncate_prompt_tokens is not None:
        parameters["truncate_prompt_tokens"] = request.truncate_prompt_tokens
    return parameters | {
        "max_new_tokens": prepared.max_new_tokens,
        "stop": list(request.stop),
        "return_full_text": request.return_full_text,
    }


def _adjustments(adjustments: TextAdjustments) -> dict[str, object]:
    """Those that were asked for, as a body writes them."""
    asked = adjustments.asked_for
    if adjustments.logit_bias:
        asked["logit_bias"] = {str(token_id): bias for token_id, bias in adjustments.logit_bias}
    return asked


def _grammar(grammar: GrammarSpec) -> dict[str, JsonValue]:
    is_json = grammar.kind in (GrammarKind.JSON, GrammarKind.CHOICE)
    value: JsonValue = json.loads(grammar.text) if is_json else grammar.text or True
    return {grammar.kind.value: value}
