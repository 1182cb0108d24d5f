"""Responses, from what was asked and what was generated; whole ones, and those of streams."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.generation.completion import Completed, FinishedText
from app.openai.answers import TokenLogprob
from app.openai.calls import AnswerParts, take_apart
from app.openai.logprobs import ChatLogprobWriter, scores_of
from app.openai.presentation import Answered, Heading, usage_of
from app.openai.response_answers import (
    CallAnswer,
    IncompleteDetails,
    InputDetails,
    ItemStatus,
    MessageAnswer,
    OutputDetails,
    OutputItem,
    ResponseAnswer,
    ResponseFailure,
    ResponseUsage,
    TextPart,
)
from app.openai.response_bodies import ResponseBody
from app.text.codec import TextCodec
from app.text.tools.spec import ToolCall
from decoding.base import FinishReason

WHOLE = frozenset({FinishReason.EOS, FinishReason.STOP})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePresenter:
    """Builds the responses to one request."""

    heading: Heading
    body: ResponseBody
    codec: TextCodec

    def begun(self) -> ResponseAnswer:
        """Before anything has been generated."""
        return self._response("in_progress", output=())

    def failed(self, code: str, message: str, output: Sequence[OutputItem]) -> ResponseAnswer:
        """After a failure; with what was there until then."""
        begun = self._response("failed", output=output)
        return begun.model_copy(update={"error": ResponseFailure(code=code, message=message)})

    def whole(self, answer: Answered) -> ResponseAnswer:
        """The whole response."""
        (sequence,) = answer.completed.sequences
        parts = take_apart(sequence.text, answer.prepared, self.codec)
        return self.ended(answer, self._items(parts, sequence))

    def ended(self, answer: Answered, output: Sequence[OutputItem]) -> ResponseAnswer:
        """A response whose items are all there."""
        usage = usage_of([answer])
        ended = self._response(
            "completed" if is_whole(answer.completed) else "incomplete", output=output
        )
        return ended.model_copy(
            update={
                "incomplete_details": _incomplete_details(answer.completed),
                "usage": ResponseUsage(
                    input_tokens=usage.prompt_tokens,
                    input_tokens_details=InputDetails(
                        cached_tokens=usage.prompt_tokens_details.cached_tokens
                    ),
                    output_tokens=usage.completion_tokens,
                    output_tokens_details=OutputDetails(),
                    total_tokens=usage.total_tokens,
                ),
            }
        )

    def logprobs(self, sequence: FinishedText) -> list[TokenLogprob]:
        """Those of a text's tokens, if they were asked for."""
        if not self.body.has_logprobs:
            return []
        scores = scores_of(sequence.token_ids, sequence.logprobs, sequence.alternatives)
        return ChatLogprobWriter(self.codec).write(scores).content

    def _items(self, parts: AnswerParts, sequence: FinishedText) -> list[OutputItem]:
        """A text that says nothing is no item unless nothing else is one."""
        last = item_status(sequence.finish_reason)
        items: list[OutputItem] = []
        if parts.said or not parts.calls:
            status = last if not parts.calls else "completed"
            items.append(message_item(draw_id("msg"), parts.said, status, self.logprobs(sequence)))
        for call in parts.calls:
            status = last if call is parts.calls[-1] else "completed"
            items.append(call_item(draw_id("fc"), call, status))
        return items

    def _response(self, status: str, *, output: Sequence[OutputItem]) -> ResponseAnswer:
        body, heading = self.body, self.heading
        asked = body.model_dump(
            mode="json", include={"text", "tool_choice", "tools"}, by_alias=True, exclude_none=True
        )
        return ResponseAnswer.model_validate(
            {
                "id": heading.id,
                "created_at": heading.created,
                "status": status,
                "model": heading.model,
                "system_fingerprint": heading.system_fingerprint,
                "output": list(output),
                "instructions": body.instructions,
                "max_output_tokens": body.max_output_tokens,
                "parallel_tool_calls": body.parallel_tool_calls is not False,
                "temperature": getattr(body, "temperature", None),
                "top_p": getattr(body, "top_p", None),
                "top_logprobs": body.top_logprobs,
                "text": asked["text"],
                "tool_choice": asked.get("tool_choice", "auto"),
                "tools": asked["tools"],
                "metadata": body.metadata or {},
                "service_tier": None if body.service_tier is None else "default",
            }
        )


def message_item(
    item_id: str, text: str, status: ItemStatus, logprobs: list[TokenLogprob]
) -> MessageAnswer:
    """A message with its one part."""
    return MessageAnswer(
        id=item_id, status=status, content=[TextPart(text=text, logprobs=logprobs)]
    )


def call_item(item_id: str, call: ToolCall, status: ItemStatus) -> CallAnswer:
    """A call, as an item."""
    return CallAnswer(
        id=item_id, call_id=call.id, name=call.name, arguments=call.arguments, status=status
    )


def draw_id(kind: str) -> str:
    """An id for an item, unlike any other."""
    return f"{kind}_{secrets.token_hex(16)}"


def is_whole(completed: Completed) -> bool:
    """Whether the answer ended by itself."""
    return completed.sequences[0].finish_reason in WHOLE


def item_status(reason: FinishReason) -> ItemStatus:
    """The status of the item with which an answer ended."""
    return "completed" if reason in WHOLE else "incomplete"


def _incomplete_details(completed: Completed) -> IncompleteDetails | None:
    if is_whole(completed):
        return None
    reason = completed.sequences[0].finish_reason
    is_cut = reason is FinishReason.LENGTH
    return IncompleteDetails(reason="max_output_tokens" if is_cut else reason.value)
