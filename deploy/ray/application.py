"""What Ray Serve imports: `deploy.ray.application:build_application`.

Ray calls it with the `args` of its configuration file and gets two deployments: fronts, which
take HTTP requests, and replicas, which hold the model. Serve's own limits on requests are set so
high that it is the service's own bounded queue that refuses: its 503 has our shape and says when
to try again.
"""

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from app.settings import Settings, SettingsError, load_settings
from deploy.ray.arguments import Arguments
from deploy.ray.fleet import FrontDeployment
from deploy.ray.front import FrontLimits
from deploy.ray.replica import Replica
from deploy.ray.router import AffinityRouter
from deploy.ray.scaling import queue_depth_policy

SPARE_REQUESTS = 64  # beyond what a replica computes and queues: those it refuses, and probes
FRONT_REQUESTS = 10_000
HEALTH_PERIOD_SECONDS = 5.0
MISSED_CHECKS = 3  # in a row; then Ray replaces a replica
ALLOWANCE_SECONDS = 10.0  # for what follows the last answer of a replica that ends


def build_application(arguments: Arguments) -> Application:
    """The application, not started.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = load_settings(arguments.settings)
    if settings.tls_cert is not None:
        raise SettingsError("tls_cert has no effect here: Ray's proxies speak HTTP without TLS")
    replicas = serve.deployment(Replica).options(
        name="Replica",
        max_ongoing_requests=(settings.max_rows + settings.max_waiting_requests + SPARE_REQUESTS),
        max_queued_requests=-1,
        ray_actor_options={"num_cpus": arguments.num_cpus, "num_gpus": arguments.num_gpus},
        health_check_period_s=HEALTH_PERIOD_SECONDS,
        health_check_timeout_s=settings.stall_seconds / MISSED_CHECKS,
        graceful_shutdown_wait_loop_s=1.0,
        graceful_shutdown_timeout_s=settings.grace_seconds + ALLOWANCE_SECONDS,
        request_router_config=RequestRouterConfig(
            request_router_class=AffinityRouter,
            request_router_kwargs={"max_lead": arguments.max_lead},
        ),
        **_scaling(arguments, settings),
    )
    fronts = serve.deployment(FrontDeployment).options(
        name="Front",
        num_replicas=arguments.num_fronts,
        max_ongoing_requests=FRONT_REQUESTS,
        max_queued_requests=-1,
        ray_actor_options={"num_cpus": arguments.front_cpus},
        graceful_shutdown_timeout_s=settings.grace_seconds + ALLOWANCE_SECONDS,
    )
    limits = FrontLimits(
        max_body_bytes=settings.max_body_bytes,
        prefix_characters=arguments.prefix_characters,
        max_attempts=arguments.max_attempts,
        accept_seconds=arguments.accept_seconds,
    )
    return fronts.bind(replicas.bind(arguments), limits)


def _scaling(arguments: Arguments, settings: Settings) -> dict[str, object]:
    if arguments.min_replicas == arguments.max_replicas:
        return {"num_replicas": arguments.min_replicas}
    config = AutoscalingConfig(
        min_replicas=arguments.min_replicas,
        max_replicas=arguments.max_replicas,
        target_ongoing_requests=arguments.target_requests or settings.max_rows / 2,
        upscale_delay_s=arguments.upscale_delay_seconds,
        downscale_delay_s=arguments.downscale_delay_seconds,
        policy=AutoscalingPolicy(policy_function=queue_depth_policy),
    )
    return {"autoscaling_config": config}
