"""`beamline chat`: a conversation in the terminal, with a model here or a server.

Reads the options and hands over to `chat_session.py`, which loads torch for a model here. Exit
codes: 0 at the end, 1 when there is nobody to talk to or a question from a pipe failed, 2 when the
options are wrong.
"""

from typing import Annotated

import typer

from app.bodies.named_fields import InvalidField
from app.commands.failure import USAGE, failure
from app.commands.request_options import Parameters, Strategy, request_fields
from app.commands.setting_options import Given, takes_settings
from app.environment import CLIENT_KEY_VARIABLE, client_key, limit_spinning
from app.settings import SettingsError, load_settings

HELP = """
Talk with a model in the terminal; answers come as they are written.

/strategy beam num_beams=4 answers with another strategy, /help lists all commands. Ctrl-C stops an
answer, Ctrl-D leaves.

Examples:
  beamline chat
  beamline chat --model ./my-model -s top_p -p top_p=0.9 --system "You are brief."
  beamline chat --url http://127.0.0.1:8000
  echo "What is a beam search?" | beamline chat -s greedy
"""


NEW_TOKENS = 512  # of an answer, unless said otherwise


@takes_settings(("Model", "Draft model", "Engine"), without=("max_waiting_requests",))
def chat(
    *,
    url: Annotated[
        str | None, typer.Option(help="A running server to talk with, instead of a model here.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help=f"The server's key; better {CLIENT_KEY_VARIABLE} in the environment."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    strategy: Strategy = None,
    parameter: Parameters = None,
    given: Given,
) -> None:
    """Talk with a model."""
    if url is not None and not url.startswith(("http://", "https://")):
        raise failure(f"--url {url}: give one that begins with http:// or https://.", USAGE)
    if url is not None and given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise failure(f"{options}: the server at --url has its own; leave it out.", USAGE)
    if url is None and api_key is not None:
        raise failure("--api-key is for a server: give its --url.", USAGE)
    try:
        fields = {"max_new_tokens": NEW_TOKENS, **request_fields(strategy, parameter)}
        settings = load_settings(given) if url is None else None
    except (SettingsError, InvalidField) as error:
        raise failure(str(error), USAGE) from None
    limit_spinning()
    # Only now: this loads torch, which takes seconds that no mistake above should cost.
    from app.commands.chat_session import chat_here, chat_with_server  # noqa: PLC0415

    if settings is not None:
        raise typer.Exit(chat_here(settings, fields, system))
    assert url is not None, "without settings there is a server"
    raise typer.Exit(chat_with_server(url.rstrip("/"), api_key or client_key(), fields, system))
