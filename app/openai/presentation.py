"""Whole answers in OpenAI's shapes, of one generation for each prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.generation.completion import Completed, FinishedText
from app.generation.prepared_request import PreparedRequest
from app.openai.answers import (
    AnswerCall,
    AnswerMessage,
    CachedTokens,
    CalledFunction,
    ChatChoice,
    ChatCompletion,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    Usage,
)
from app.openai.calls import AnswerParts, take_apart
from app.openai.chat_bodies import ChatBody
from app.openai.completion_bodies import CompletionBody
from app.openai.logprobs import (
    ChatLogprobWriter,
    CompletionLogprobWriter,
    joined,
    scores_of,
)
from app.text.codec import TextCodec
from decoding.base import FinishReason, TokenScore

FINISH_REASONS: Mapping[FinishReason, str] = {FinishReason.EOS: "stop"}  # others keep their name

NOTHING = FinishedText(
    text="", token_ids=(), logprobs=(), finish_reason=FinishReason.LENGTH, score=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What the answer and all chunks of a request begin with."""

    id: str
    created: int
    model: str
    system_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A prompt and its whole answer."""

    prepared: PreparedRequest
    completed: Completed


def finish_reason(reason: FinishReason) -> str:
    """As OpenAI calls it."""
    return FINISH_REASONS.get(reason, reason.value)


def chat_finish_reason(reason: FinishReason, *, has_calls: bool) -> str:
    """The same, of an answer that may call functions."""
    return "tool_calls" if has_calls and reason is FinishReason.EOS else finish_reason(reason)


def usage_of(answers: Sequence[Answered], *, has_new_tokens: bool = True) -> Usage:
    """Tokens of all prompts and all their sequences."""
    num_prompt = sum(len(answer.prepared.prompt_ids) for answer in answers)
    sequences = [each for answer in answers for each in answer.completed.sequences]
    num_new = sum(len(each.token_ids) for each in sequences) if has_new_tokens else 0
    num_cached = sum(answer.completed.timings.num_cached_tokens for answer in answers)
    return Usage(
        prompt_tokens=num_prompt,
        completion_tokens=num_new,
        total_tokens=num_prompt + num_new,
        prompt_tokens_details=CachedTokens(cached_tokens=num_cached),
    )


def present_chat(
    heading: Heading, body: ChatBody, answer: Answered, codec: TextCodec
) -> ChatCompletion:
    """The answer to a conversation."""
    return ChatCompletion(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        system_fingerprint=heading.system_fingerprint,
        choices=[
            ChatChoice(
                index=index,
                message=_message(parts),
                logprobs=ChatLogprobWriter(codec).write(_scores(sequence))
                if body.logprobs
                else None,
                finish_reason=chat_finish_reason(
                    sequence.finish_reason, has_calls=bool(parts.calls)
                ),
                score=sequence.score,
            )
            for index, sequence in enumerate(answer.completed.sequences)
            for parts in [take_apart(sequence.text, answer.prepared, codec)]
        ],
        usage=usage_of([answer]),
        service_tier=None if body.service_tier is None else "default",
        metadata=body.metadata,
    )


def _message(parts: AnswerParts) -> AnswerMessage:
    return AnswerMessage(
        content=parts.said or (None if parts.calls else ""),
        tool_calls=[
            AnswerCall(
                id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments)
            )
            for call in parts.calls
        ]
        or None,
    )


def present_completion(
    heading: Heading, body: CompletionBody, answers: Sequence[Answered], codec: TextCodec
) -> Completion:
    """The texts of all prompts; of one without new tokens only the prompt."""
    sequences = [
        (answer, sequence)
        for answer in answers
        for sequence in shown_sequences(body, answer.completed)
    ]
    return Completion(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        system_fingerprint=heading.system_fingerprint,
        choices=[
            CompletionChoice(
                index=index,
                text=(answer.prepared.prompt_text if body.echo else "") + sequence.text,
                logprobs=None
                if body.logprobs is None
                else _completion_logprobs(body, answer, sequence, codec),
                finish_reason=finish_reason(sequence.finish_reason),
                score=sequence.score,
            )
            for index, (answer, sequence) in enumerate(sequences)
        ],
        usage=usage_of(answers, has_new_tokens=body.max_tokens > 0),
        service_tier=None if body.service_tier is None else "default",
    )


def shown_sequences(body: CompletionBody, completed: Completed) -> Sequence[FinishedText]:
    """The sequences as far as the body asked for them: without new tokens they are empty."""
    return completed.sequences if body.max_tokens else [NOTHING] * len(completed.sequences)


def _completion_logprobs(
    body: CompletionBody, answer: Answered, sequence: FinishedText, codec: TextCodec
) -> CompletionLogprobs:
    writer = CompletionLogprobWriter(codec)
    if not body.echo:
        return writer.write(_scores(sequence))
    echoed = prompt_logprobs(writer, answer.prepared, answer.completed)
    return joined(echoed, writer.write(_scores(sequence)))


def prompt_logprobs(
    writer: CompletionLogprobWriter, prepared: PreparedRequest, completed: Completed
) -> CompletionLogprobs:
    """Those of an echoed prompt."""
    return writer.write_prompt(prepared.prompt_text, prepared.prompt_ids, completed.prompt_scores)


def _scores(sequence: FinishedText) -> list[TokenScore]:
    return scores_of(sequence.token_ids, sequence.logprobs, sequence.alternatives)
