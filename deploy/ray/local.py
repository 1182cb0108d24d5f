"""A Ray cluster of this machine alone that serves the application until SIGTERM, and drains it.

    python -m deploy.ray.local '{"min_replicas": 2, "max_replicas": 2}' 8000

Arguments are those of `arguments.py`, as JSON, and a port. Tests and `benchmarks/ray_failure.py`
run it as a process, since Ray's threads and signal handlers are no guests for another program.
"""

import json
import signal
import sys

import ray
from ray import serve

from deploy.ray.application import build_application
from deploy.ray.arguments import Arguments

NUM_CPUS = 4  # that Ray counts with, whatever there are: replicas share them
OBJECT_STORE_BYTES = 100_000_000  # nothing large goes through it


def main(arguments: str, port: str) -> None:
    """Serve until SIGTERM."""
    parsed = Arguments.model_validate(json.loads(arguments))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ray.init(
        address="local",  # not one that happens to run here
        num_cpus=NUM_CPUS,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
        serve.run(build_application(parsed), name="beamline", route_prefix="/")
        sys.stdout.write(f"ready: http://127.0.0.1:{port} serves\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM})
        serve.delete("beamline")  # returns when what was accepted is answered
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
