"""A finished generation as TGI tells it. What is not asked for is left out, as there."""

from collections.abc import Mapping
from types import MappingProxyType

from app.generation.completion import Completed, FinishedText
from app.generation.prepared_request import PreparedRequest
from app.text.codec import TextCodec
from app.tgi.responses import (
    BestOfSequence,
    PrefillToken,
    TgiDetails,
    TgiFinishReason,
    TgiResponse,
    TgiStreamDetails,
    Token,
)
from app.tgi.token_text import TokenWriter, likely_tokens
from decoding.base import FinishReason

_REASONS: Mapping[FinishReason, TgiFinishReason] = MappingProxyType(
    {
        FinishReason.EOS: TgiFinishReason.EOS_TOKEN,
        FinishReason.STOP: TgiFinishReason.STOP_SEQUENCE,
    }
)


def present(
    prepared: PreparedRequest, completed: Completed, codec: TextCodec, *, has_details: bool
) -> TgiResponse:
    """The body of an answer."""
    return TgiResponse(
        generated_text=full_text(prepared, completed.sequences[0]),
        details=_details(prepared, completed, codec) if has_details else None,
    )


def full_text(prepared: PreparedRequest, sequence: FinishedText) -> str:
    """A sequence's text, behind the prompt if that was asked for."""
    prompt = prepared.prompt_text if prepared.request.return_full_text else ""
    return prompt + sequence.text


def stream_details(prepared: PreparedRequest, completed: Completed) -> TgiStreamDetails:
    """What the last event of a stream tells."""
    sequence = completed.sequences[0]
    return TgiStreamDetails(
        finish_reason=_reason(sequence),
        generated_tokens=len(sequence.token_ids),
        seed=_seed(prepared, completed),
        input_length=len(prepared.prompt_ids),
    )


def _details(prepared: PreparedRequest, completed: Completed, codec: TextCodec) -> TgiDetails:
    first, *others = (
        BestOfSequence(
            generated_text=full_text(prepared, sequence),
            finish_reason=_reason(sequence),
            generated_tokens=len(sequence.token_ids),
            seed=_seed(prepared, completed),
            prefill=_prefill(prepared, completed, codec),
            tokens=_tokens(prepared, sequence, codec),
            top_tokens=_top_tokens(prepared, sequence, codec),
        )
        for sequence in completed.sequences
    )
    return TgiDetails(
        finish_reason=first.finish_reason,
        generated_tokens=first.generated_tokens,
        seed=first.seed,
        prefill=first.prefill,
        tokens=first.tokens,
        top_tokens=first.top_tokens,
        best_of_sequences=others or None,
    )


def _reason(sequence: FinishedText) -> TgiFinishReason:
    """TGI knows no other limit than the length, so whatever else cut a text is told as that."""
    return _REASONS.get(sequence.finish_reason, TgiFinishReason.LENGTH)


def _seed(prepared: PreparedRequest, completed: Completed) -> int | None:
    return None if prepared.request.strategy.is_deterministic else completed.seed


def _prefill(
    prepared: PreparedRequest, completed: Completed, codec: TextCodec
) -> list[PrefillToken]:
    if prepared.request.prompt_logprobs is None:
        return []
    first_id = prepared.prompt_ids[0]
    first = PrefillToken(id=first_id, text=codec.token_text(first_id), logprob=None)
    scored = [
        PrefillToken(id=each.token_id, text=codec.token_text(each.token_id), logprob=each.logprob)
        for each in completed.prompt_scores
    ]
    return [first, *scored]


def _tokens(prepared: PreparedRequest, sequence: FinishedText, codec: TextCodec) -> list[Token]:
    writer = TokenWriter(codec, prepared)
    last = len(sequence.token_ids) - 1
    pairs = zip(sequence.token_ids, sequence.logprobs, strict=True)
    return [
        writer.write(token_id, logprob, is_last=place == last)
        for place, (token_id, logprob) in enumerate(pairs)
    ]


def _top_tokens(
    prepared: PreparedRequest, sequence: FinishedText, codec: TextCodec
) -> list[list[Token]] | None:
    if not prepared.request.top_logprobs:
        return None
    return [likely_tokens(each, codec) for each in sequence.alternatives]
