"""`GET /metrics`: the service's registry in the format the scraper asks for. Nothing else."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from app.http.dependencies import ServicesDep


def build_router() -> APIRouter:
    """The route that Prometheus scrapes."""
    router = APIRouter(tags=["operations"])
    router.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        summary="Metrics for Prometheus",
    )
    return router


async def metrics(request: Request, services: ServicesDep) -> Response:
    """Text format, or OpenMetrics where the `Accept` header asks for it."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(services.metrics.registry), headers={"Content-Type": content_type})
