"""`GET /info`: what is served, within which limits, with which strategies; `GET /version`.

No logic but putting it together.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from inspect import cleandoc

from fastapi import APIRouter
from pydantic.json_schema import JsonSchemaValue

from app.bodies.adjustment_fields import AdjustmentFields
from app.bodies.generation_fields import MAX_STOPS
from app.bodies.info_bodies import (
    AbilitiesInfo,
    InfoResponse,
    LimitsInfo,
    ModelInfo,
    StrategyInfo,
    VersionResponse,
)
from app.bodies.request_fields import MAX_TEXTS
from app.bodies.request_models import build_model
from app.errors import ServiceUnavailable
from app.generation.generator import TextGenerator
from app.generation.request_limits import RequestLimits
from app.http.dependencies import GeneratorDep, ServicesDep
from app.routes.generate import ERROR_RESPONSES
from app.state import ServedModel, Services
from decoding.base import Strategy
from decoding.params import MAX_SEQUENCES
from decoding.registry import DEFAULT_STRATEGY
from engine.messages import EngineLimits


def build_router(strategies: Mapping[str, type[Strategy]]) -> APIRouter:
    """Both routes; `strategies` are described with their schemas."""
    router = APIRouter(tags=["operations"])
    described = {name: _strategy_info(strategy) for name, strategy in strategies.items()}
    adjustments = AdjustmentFields.model_json_schema()

    @router.get(
        "/info",
        responses={503: ERROR_RESPONSES[503]},
        summary="What is served, within which limits, with which strategies",
    )
    async def info(services: ServicesDep, generator: GeneratorDep) -> InfoResponse:
        """One answer with the fields of TGI's `/info` and ours."""
        served, worker = services.model, services.worker
        if served is None or worker is None:
            raise ServiceUnavailable("The model is not loaded.")
        limits = _limits_info(services, worker.limits, generator.request_limits)
        return InfoResponse(
            model_id=served.name,
            model_sha=served.revision,
            model_dtype=served.dtype,
            model_device_type=served.device,
            max_concurrent_requests=limits.max_rows + limits.max_waiting_requests,
            max_best_of=limits.max_sequences,
            max_stop_sequences=limits.max_stops,
            max_input_tokens=limits.max_prompt_tokens,
            max_total_tokens=limits.context_length,
            validation_workers=services.settings.text_threads,
            max_client_batch_size=limits.max_texts,
            version=version("beamline"),
            model=_model_info(served),
            limits=limits,
            abilities=_abilities(generator, worker.limits),
            fingerprint=generator.presenter.fingerprint,
            default_strategy=DEFAULT_STRATEGY,
            strategies=described,
            adjustments=adjustments,
        )

    @router.get("/version", summary="Which release this is")
    async def release() -> VersionResponse:
        """Answers whatever the service is doing."""
        return VersionResponse(version=version("beamline"))

    return router


def _strategy_info(strategy: type[Strategy]) -> StrategyInfo:
    """Its own fields, with the definitions that they use."""
    schema = build_model(strategy).model_json_schema()
    own = {field.name for field in fields(strategy)}  # type: ignore[arg-type]
    properties = {name: part for name, part in schema["properties"].items() if name in own}
    parameters: JsonSchemaValue = {"type": "object", "properties": properties}
    told: object = strategy.is_deterministic
    required = [name for name in schema.get("required", []) if name in own]
    if required:
        parameters["required"] = required
    if "#/$defs/" in json.dumps(properties):
        parameters["$defs"] = schema["$defs"]
    return StrategyInfo(
        description=cleandoc(strategy.__doc__ or strategy.name),
        deterministic=told if isinstance(told, bool) else None,
        parameters=parameters,
    )


def _model_info(served: ServedModel) -> ModelInfo:
    return ModelInfo(
        name=served.name,
        revision=served.revision,
        runtime=served.runtime,
        device=served.device,
        dtype=served.dtype,
        weights=served.weights,
        tensor_parallel_size=served.tensor_parallel_size,
    )


def _limits_info(services: Services, limits: EngineLimits, allowed: RequestLimits) -> LimitsInfo:
    """What the model and the engine can, as far as the operator allows it."""
    longest = limits.context_length - 1
    return LimitsInfo(
        context_length=limits.context_length,
        vocab_size=limits.vocab_size,
        max_rows=limits.max_rows,
        max_prompt_tokens=_least(longest, allowed.max_prompt_tokens),
        max_new_tokens=_least(longest, allowed.max_new_tokens),
        max_sequences=_least(min(limits.max_rows, MAX_SEQUENCES), allowed.max_sequences),
        max_cached_tokens=limits.max_cached_tokens,
        max_waiting_requests=services.settings.max_waiting_requests,
        max_body_bytes=services.settings.max_body_bytes,
        max_texts=_least(MAX_TEXTS, allowed.max_texts),
        max_stops=_least(MAX_STOPS, allowed.max_stops),
    )


def _least(possible: int, allowed: int | None) -> int:
    return possible if allowed is None else min(possible, allowed)


def _abilities(generator: TextGenerator, limits: EngineLimits) -> AbilitiesInfo:
    return AbilitiesInfo(
        deterministic=limits.is_deterministic,
        prompt_logprobs=limits.has_all_logits,
        speculation=limits.has_all_logits,
        hidden_states=limits.has_hidden_states,
        chat=generator.prompts.codec.has_chat_template,
    )
