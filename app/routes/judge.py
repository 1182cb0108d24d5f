"""Routes that judge texts instead of writing them: `/score`, `/v1/systemone`, `/watermark/detect`.

No logic here.
"""

from fastapi import APIRouter, Request

from app.bodies.decision_bodies import (
    ChoiceAnswer,
    ChoiceQuestion,
    DecisionRequest,
    DecisionResponse,
    DecisionUsage,
    NoulAnswer,
    NoulQuestion,
    ScoreAnswer,
    ScoreQuestion,
)
from app.bodies.score_bodies import ScoredContinuation, ScoreRequest, ScoreResponse
from app.bodies.watermark_bodies import DetectRequest, DetectResponse
from app.generation.presentation import Presenter
from app.http.dependencies import GeneratorDep
from app.http.disconnect import run_until_disconnect
from app.routes.generate import ERROR_RESPONSES
from app.text.questions import QuestionKind, TypedQuestion
from decoding.base import TokenScore

_ANSWERS = {
    QuestionKind.NOUL: NoulAnswer,
    QuestionKind.CHOICE: ChoiceAnswer,
    QuestionKind.SCORE: ScoreAnswer,
}


def build_router() -> APIRouter:
    """Both routes."""
    router = APIRouter(tags=["judge"], responses=ERROR_RESPONSES)

    @router.post("/score", summary="How likely texts are to follow a prompt")
    async def score(body: ScoreRequest, generator: GeneratorDep, request: Request) -> ScoreResponse:
        """The log-probability of each continuation under the model; nothing is generated."""
        scored = await run_until_disconnect(
            request.receive, generator.judge.score(body.text, body.continuations)
        )
        presenter = generator.presenter
        results = [_scored(at, each, presenter) for at, each in enumerate(scored.continuations)]
        return ScoreResponse(
            results=results,
            best=max(range(len(results)), key=lambda at: results[at].logprob),
            input_length=scored.num_prompt_tokens,
            model=presenter.model_name,
        )

    @router.post("/v1/systemone", summary="Typed decisions about a state, with probabilities")
    async def systemone(
        body: DecisionRequest, generator: GeneratorDep, request: Request
    ) -> DecisionResponse:
        """Yes or no, a choice, or a level for each question, read off one prefill a question."""
        questions = [_typed(question) for question in body.questions.values()]
        decided = await run_until_disconnect(
            request.receive, generator.judge.decide(body.state, questions)
        )
        answers = {
            name: _ANSWERS[question.kind](**answer)
            for name, question, answer in zip(
                body.questions, questions, decided.answers, strict=True
            )
        }
        return DecisionResponse(
            model=body.model or generator.presenter.model_name,
            answers=answers,
            usage=DecisionUsage(input_tokens=decided.num_prompt_tokens),
        )

    @router.post("/watermark/detect", summary="Tell whether a text was watermarked here")
    async def detect_watermark(body: DetectRequest, generator: GeneratorDep) -> DetectResponse:
        """Counts the tokens that a watermark with this key would have favoured."""
        watermark = body.watermark.as_watermark()
        found = await generator.judge.detect_watermark(body.text, watermark)
        return DetectResponse(
            is_watermarked=found.is_watermarked,
            num_tokens_scored=found.num_tokens_scored,
            num_green_tokens=found.num_green_tokens,
            z_score=found.z_score,
            p_value=found.p_value,
        )

    return router


def _scored(index: int, scores: tuple[TokenScore, ...], presenter: Presenter) -> ScoredContinuation:
    logprob = sum(score.logprob for score in scores)
    return ScoredContinuation(
        index=index,
        logprob=logprob,
        mean_logprob=logprob / len(scores),
        tokens=presenter.scored_tokens(scores, has_alternatives=False),
    )


def _typed(question: NoulQuestion | ChoiceQuestion | ScoreQuestion) -> TypedQuestion:
    match question:
        case NoulQuestion():
            given = question.criteria or {}
            options = {"true": given.get("true"), "false": given.get("false")}
        case ChoiceQuestion():
            options = dict(question.criteria)
        case ScoreQuestion():
            options = {str(level): each for level, each in enumerate(question.criteria)}
    return TypedQuestion(
        kind=QuestionKind(question.type), instructions=question.instructions, options=options
    )
