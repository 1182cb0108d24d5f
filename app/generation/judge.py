"""Judges texts instead of writing them: how likely continuations are, and typed decisions.

Routes call it. Everything it asks runs in the engine's one batch, beside generations; a decision
costs one prefill and no token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.access.meter import Meter
from app.errors import InvalidRequest
from app.generation.engine_calls import EngineCalls
from app.generation.preparation import Preparer
from app.text.codec import TextCodec
from app.text.executor import TextExecutor
from app.text.questions import TypedQuestion
from app.text.request import Message, TextRequest
from decoding.adjustments import Watermark
from decoding.base import Strategy, TokenScore
from decoding.greedy import Greedy
from decoding.label_choice import LabelChoice
from decoding.watermark import Detection, detect
from engine.messages import GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTexts:
    """The tokens of each continuation with their scores, and how long the prompt was."""

    continuations: list[tuple[TokenScore, ...]]
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Answers in the order of the questions, and how many tokens were read."""

    answers: list[dict[str, Any]]
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What it needs of the service. Holds no state."""

    codec: TextCodec
    preparer: Preparer
    executor: TextExecutor
    calls: EngineCalls
    meter: Meter | None = None  # of the key that asks

    async def score(self, text: str, continuations: Sequence[str]) -> ScoredTexts:
        """How likely each continuation is after the text.

        Raises:
            InvalidRequest: it does not fit the model, or the runtime gives no such scores.
            EngineError: the engine could not take or finish it.
        """
        self.preparer.fit.check_scoring("continuations")
        self.preparer.fit.request_limits.check_texts(len(continuations), param="continuations")
        prepare = partial(self._scoring_requests, text, continuations)
        num_prompt, requests = await self.executor.run(prepare)
        finished = await self.calls.ask_all(requests, self.meter)
        return ScoredTexts(
            continuations=[each.prompt_scores for each in finished], num_prompt_tokens=num_prompt
        )

    async def decide(self, state: object, questions: Sequence[TypedQuestion]) -> Decided:
        """The answer to each question about the state.

        Raises:
            InvalidRequest: a prompt does not fit the model, or it has no tokens for the labels.
            EngineError: the engine could not take or finish it.
        """
        prepare = partial(self._decision_requests, state, questions)
        requests = await self.executor.run(prepare)
        finished = await self.calls.ask_all(requests, self.meter)
        answers = [
            question.answer(_shares([sequence.logprobs[0] for sequence in each.sequences]))
            for question, each in zip(questions, finished, strict=True)
        ]
        return Decided(
            answers=answers, num_prompt_tokens=sum(len(each.prompt_ids) for each in requests)
        )

    async def detect_watermark(self, text: str, watermark: Watermark) -> Detection:
        """How many tokens of a text this watermark would have favoured.

        Raises:
            InvalidRequest: the text has fewer than two tokens.
        """
        return await self.executor.run(partial(self._detect, text, watermark))

    def _detect(self, text: str, watermark: Watermark) -> Detection:
        token_ids = self.codec.encode_piece(text)
        if len(token_ids) < 2:
            raise InvalidRequest("The text is too short to tell; send more of it.", param="text")
        self.preparer.fit.check_prompt_ids(token_ids, "text")
        return detect(token_ids, watermark, self.preparer.fit.limits.vocab_size)

    def _scoring_requests(
        self, text: str, continuations: Sequence[str]
    ) -> tuple[int, list[GenerationRequest]]:
        prompt_ids = self._prepare(text, "text", Greedy())
        requests = []
        for index, continuation in enumerate(continuations):
            ids = (*prompt_ids, *self.codec.encode_piece(continuation))
            self.preparer.fit.check_prompt_ids(ids, f"continuations.{index}")
            requests.append(_request(ids, Greedy(), scored_from=len(prompt_ids)))
        return len(prompt_ids), requests

    def _decision_requests(
        self, state: object, questions: Sequence[TypedQuestion]
    ) -> list[GenerationRequest]:
        requests = []
        for question in questions:
            prompt = question.prompt(state)
            has_template = self.codec.has_chat_template
            spoken = (
                (Message(role="user", content=prompt),) if has_template else f"{prompt}\nReply:"
            )
            label_ids = self._label_ids(question.labels, "" if has_template else " ")
            strategy = LabelChoice(label_ids=label_ids)
            requests.append(_request(self._prepare(spoken, "state", strategy), strategy))
        return requests

    def _prepare(
        self, prompt: str | tuple[Message, ...], field: str, strategy: Strategy
    ) -> tuple[int, ...]:
        request = TextRequest(
            prompt=prompt, prompt_field=field, strategy=strategy, max_new_tokens=1
        )
        return self.preparer.prepare(request).prompt_ids

    def _label_ids(self, labels: Sequence[str], before: str) -> tuple[int, ...]:
        """The one token of each label as the model would begin its reply with it."""
        encoded = [self.codec.encode_piece(before + label) for label in labels]
        if any(len(ids) != 1 for ids in encoded) or len(set(encoded)) < len(encoded):
            raise InvalidRequest(
                f"This model has no single tokens for the labels {', '.join(labels)}; it cannot "
                "answer typed questions.",
                param="questions",
                code="unsupported",
            )
        return tuple(ids[0] for ids in encoded)


def _request(
    prompt_ids: tuple[int, ...], strategy: Strategy, *, scored_from: int | None = None
) -> GenerationRequest:
    return GenerationRequest(
        request_id="",
        prompt_ids=prompt_ids,
        strategy=strategy,
        max_new_tokens=1,
        seed=0,
        scored_from=scored_from,
    )


def _shares(logprobs: Sequence[float]) -> list[float]:
    """What each holds of all of them together."""
    most = max(logprobs)
    weights = [math.exp(logprob - most) for logprob in logprobs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
