"""The command: `python -m benchmarks.peers install` and `python -m benchmarks.peers run`."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console

from benchmarks.peers.install import ENVIRONMENTS
from benchmarks.peers.install import install as install_one
from benchmarks.peers.measure import measure
from benchmarks.peers.peers import find_llama_binaries, make_peers
from benchmarks.peers.scenarios import SCENARIOS
from benchmarks.peers.summary import summarise
from benchmarks.peers.weights import Weights

DEFAULT_FOLDER = Path(platformdirs.user_cache_dir("beamline")) / "peers"

app = typer.Typer(add_completion=False, no_args_is_help=True)
Folder = Annotated[Path, typer.Option("--peers-folder", help="Where their environments are.")]


@app.command()
def install(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all if none is given.")] = None,
    *,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Make the peers' environments. llama.cpp is compiled, which takes a while."""
    for name in names or ENVIRONMENTS:
        if name not in ENVIRONMENTS:
            raise typer.BadParameter(f"{name}: choose of {', '.join(ENVIRONMENTS)}")
        install_one(folder, name)


@app.command()
def run(
    *,
    folder: Folder = DEFAULT_FOLDER,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each peer.")] = 5,
    only: Annotated[str, typer.Option(help="Peers whose names hold one of these, by commas.")] = "",
    scenarios: Annotated[str, typer.Option(help="Of the scenarios, by commas.")] = ",".join(
        SCENARIOS
    ),
    beamline: Annotated[
        list[str] | None, typer.Option(help='Our variants: NAME=OPTIONS, "exact=--weights fp32".')
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
) -> None:
    """Measure Beamline beside its peers."""
    chosen = {name.strip(): SCENARIOS[name.strip()] for name in scenarios.split(",")}
    variants = dict(variant.split("=", 1) for variant in beamline or ["Beamline="])
    variants = {name: shlex.split(options) for name, options in variants.items()}
    weights_folder = folder / "weights"
    weights_folder.mkdir(parents=True, exist_ok=True)
    weights = Weights(weights_folder, find_llama_binaries(folder))
    makers = make_peers(folder, weights, variants)
    wanted = [word.strip() for word in only.split(",") if word.strip()]
    makers = {
        name: make
        for name, make in makers.items()
        if name in variants or not wanted or any(word in name for word in wanted)
    }
    console = Console(stderr=True)
    with console.status("") as status:
        measured = measure(makers, chosen, num_rounds=rounds, tell=status.update)
    Console(soft_wrap=True).print(
        summarise(measured, list(chosen), next(iter(variants))), markup=False, highlight=False
    )
    if json_file is not None:
        content = asdict(measured)
        content["speeds"] = {" / ".join(key): value for key, value in measured.speeds.items()}
        json_file.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    app()
