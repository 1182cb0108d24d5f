"""A Ray cluster of this machine alone that serves the application until SIGTERM.

Run as a program by the tests and by the benchmark, with the application's arguments as JSON and
a port: Ray's warnings, threads and signal handlers stay out of pytest.
"""

import json
import signal
import sys

import ray
from ray import serve

from deploy.ray.application import build_application
from deploy.ray.arguments import Arguments

OBJECT_STORE_BYTES = 100_000_000


def main(arguments: str, port: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
        parsed = Arguments.model_validate(json.loads(arguments))
        serve.run(build_application(parsed), name="beamline", route_prefix="/")
        sys.stdout.write(f"ready: http://127.0.0.1:{port} serves\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM})
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
