"""The ASGI application: routes, error table and middleware around one `Services`.

`beamline serve` calls `create_app` with its settings; `uvicorn app.main:create_app --factory`
calls it without, and it reads the environment. There the host's own options rule address, port and
shutdown (for uvicorn `--timeout-graceful-shutdown`): draining with a falling readiness is what
`beamline serve` adds. One process serves one model: run replicas, not several workers.
"""

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import JsonSchemaValue
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.access.limiter import STANDING_HEADERS
from app.bodies.decision_bodies import DecisionRequest
from app.bodies.request_models import StrategyUnion
from app.bodies.score_bodies import ScoreRequest
from app.bodies.token_bodies import DetokenizeRequest
from app.bodies.watermark_bodies import DetectRequest
from app.http.authentication import Authentication
from app.http.error_handlers import install_error_handlers
from app.http.middleware import BodyLimit, RequestContext
from app.http.openapi import drop_unused_schemas, restore_bounds
from app.http.security_schemes import describe_access
from app.lifespan import build_lifespan, build_services
from app.loading import LoadModel, load_model
from app.openai import render as openai_render
from app.openai import routes as openai_routes
from app.openai.errors import DIALECT as OPENAI_DIALECT
from app.openai.errors import RESPONSE_DIALECT
from app.process.progress import ProgressCallback, build_log_progress
from app.routes import admin, generate, health, info, jobs, judge, metrics, tokens
from app.settings import Settings, load_settings
from app.state import Services
from app.tgi import routes as tgi_routes
from app.tgi.errors import DIALECT as TGI_DIALECT
from app.tgi.request import TgiUnion
from decoding.registry import load_strategies

# APIs that write errors in a way of their own.
DIALECTS = (RESPONSE_DIALECT, OPENAI_DIALECT, TGI_DIALECT)
# What pages of other origins may read of an answer besides its body.
EXPOSED_HEADERS = ("X-Request-Id", "X-Cache", "Retry-After", *STANDING_HEADERS)
DESCRIPTION = "Text from causal language models; every decoding strategy in one continuous batch."


class Service(FastAPI):
    """A FastAPI with its request context outermost and a mended document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        is_new = self.openapi_schema is None  # it is made once
        document = super().openapi()
        if is_new:
            drop_unused_schemas(document)
            restore_bounds(document, self._body_schemas)
        services: Services = self.state.services
        describe_access(document, services.gate)
        return document

    def build_middleware_stack(self) -> ASGIApp:
        """The stack as FastAPI builds it, inside `RequestContext`."""
        services: Services = self.state.services
        return RequestContext(super().build_middleware_stack(), services)

    @cached_property
    def _body_schemas(self) -> Mapping[str, JsonSchemaValue]:
        judged = (ScoreRequest, DecisionRequest, DetectRequest)
        known = load_strategies()
        others = (*judged, TgiUnion(known).model, DetokenizeRequest)
        named = {model.__name__: model.model_json_schema() for model in others}
        unions = (StrategyUnion(known), *openai_routes.build_unions(known))
        strategies = {name: each for union in unions for name, each in union.schemas.items()}
        nested: dict[str, JsonSchemaValue] = {}
        for schema in (*strategies.values(), *named.values()):
            nested |= schema.get("$defs", {})
        return {**nested, **named, **strategies}


def create_app(
    settings: Settings | None = None,
    *,
    progress: ProgressCallback | None = None,
    load: LoadModel = load_model,
) -> FastAPI:
    """Build the application; the model loads when a server starts it.

    Args:
        settings: what to serve and how; None reads the environment.
        progress: told the stage and the fraction done while the model loads; None logs them.
        load: loads the model that the settings describe.

    Raises:
        SettingsError: the environment holds unusable settings.
        KeyFileError: the file with the API keys is unusable.
        InvalidStrategy: an installed plugin is not a decoding strategy.
    """
    settings = load_settings() if settings is None else settings
    services = build_services(settings)
    app = Service(
        title="Beamline",
        description=DESCRIPTION,
        version=version("beamline"),
        lifespan=build_lifespan(services, progress or build_log_progress(), load),
    )
    app.state.services = services
    _add_middleware(app, services)
    install_error_handlers(app, DIALECTS)
    _add_routes(app)
    return app


def _add_middleware(app: FastAPI, services: Services) -> None:
    """From the routes outwards."""
    settings = services.settings
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Authentication, services=services, dialects=DIALECTS)
    if settings.cors_origins:  # before the door: a browser's preflight brings no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )


def _add_routes(app: FastAPI) -> None:
    strategies = load_strategies()
    tgi_union = TgiUnion(strategies)
    app.include_router(generate.build_router(strategies, tgi_union))
    app.include_router(tgi_routes.build_router(tgi_union))
    app.include_router(jobs.build_router(strategies))
    app.include_router(judge.build_router())
    app.include_router(openai_routes.build_router(strategies))
    app.include_router(openai_render.build_router(strategies))
    app.include_router(tokens.build_router())
    app.include_router(info.build_router(strategies))
    app.include_router(health.build_router())
    app.include_router(metrics.build_router())
    app.include_router(admin.build_router())
