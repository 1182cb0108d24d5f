"""What others' variables in the process's environment say, and what we say to others in it.

With `app/settings.py`, which reads our own (`BEAMLINE_*`), the only place that looks at the
environment. Settings that default to another program's variable ask here.
"""

import os
import sys

from machine.cores import usable_cores

CLIENT_KEY_VARIABLE = "BEAMLINE_API_KEY"  # no setting of a server, but a client's key for one


def default_threads() -> int:
    """What OpenMP's own variable says, else one for each core that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(said) if said.isdecimal() and int(said) > 0 else usable_cores()


def default_otlp_endpoint() -> str | None:
    """Where OpenTelemetry's own variables say that traces go."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def threading_variables() -> dict[str, str]:
    """What the environment tells the libraries that compute about threads."""
    prefixes = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def client_key() -> str | None:
    """The key for somebody else's server that the environment holds, if it does."""
    return os.environ.get(CLIENT_KEY_VARIABLE) or None


def limit_spinning() -> None:
    """Let torch's idle threads sleep sooner. Call before torch is imported; the user's word wins.

    GNU OpenMP spins for milliseconds at the end of each parallel loop. Where other processes want
    the cores too, that made steps 3 to 10 times slower; with a short spin they lose a few percent
    on an idle machine and little on a busy one.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def shard_environment(rank: int) -> dict[str, str]:
    """What another process of a model that is split gets; transformers reads its device there."""
    return {**os.environ, "LOCAL_RANK": str(rank)}


def keep_collectives_local() -> None:
    """Have the processes of a model talk over the loopback interface, unless the user says else.

    What they say is neither encrypted nor checked, and they are all on this machine.
    """
    os.environ["LOCAL_RANK"] = "0"  # our own device is the first, whatever started us
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "=lo")  # else NCCL takes any other that is up
