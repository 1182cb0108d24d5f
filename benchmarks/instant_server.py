"""The whole service around a runner that answers at once, for `benchmarks.http_cost`.

    python -m benchmarks.instant_server [--profile FILE]

Listens on a free port of this machine, says which in a line, and serves until SIGTERM. The
tokenizer is the default model's. With `--profile` what the event loop's thread did is written to a
file for `pstats` at the end.
"""

import argparse
import cProfile
import gc
from dataclasses import replace
from functools import partial

from app.loading import LoadedModel, load_model
from app.main import create_app
from app.process.listener import open_socket, url_of
from app.process.progress import ProgressCallback
from app.process.server import DrainingServer
from app.settings import Settings, load_settings
from benchmarks.instant_runner import InstantRunner
from engine.engine import Engine

WORDS = " the quick brown fox jumps over the lazy dog and runs into a dark green forest"


def load_instantly(settings: Settings, progress: ProgressCallback) -> LoadedModel:
    """The model's tokenizer with a runner that computes nothing."""
    loaded = load_model(settings, progress)
    runner = InstantRunner(
        settings.engine_config,
        vocab_size=loaded.engine.limits.vocab_size,
        word_ids=loaded.tokenizer(WORDS)["input_ids"],
    )
    return replace(loaded, engine=Engine(runner, settings.engine_config))


def serve(settings: Settings) -> None:
    """Serve on a free port until a signal."""
    listener = open_socket("127.0.0.1", 0)
    app = create_app(settings, progress=lambda _stage, _share: None, load=load_instantly)

    def on_settled() -> None:
        gc.freeze()
        if app.state.services.was_ready:
            print(url_of(listener), flush=True)

    DrainingServer(app, on_settled=on_settled).run(sockets=[listener])


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", help="where to write what the event loop's thread did")
    options = parser.parse_args()
    run = partial(serve, load_settings({"access_log": False, "max_waiting_requests": 1024}))
    if options.profile is None:
        run()
        return
    profile = cProfile.Profile()
    profile.runcall(run)
    profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
