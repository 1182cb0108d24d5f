"""Beam search of many requests at once, beside transformers and vLLM, in one run.

    python -m benchmarks.beams --environments FOLDER [--requests 16] [--new-tokens 32] [--turns 2]

16 requests with 4 beams on the default model. Ours run together in the one batch, with 8-bit
weights and in float32; transformers' `generate` runs request by request; vLLM gets them all at once
in its own `beam_search`. Everybody is paused while another takes its turn; the fastest turn of each
counts. FOLDER holds vLLM's environment, as `python -m benchmarks.peers` makes it. Prints new tokens
per second of the best beams and the ratios.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.workload import PromptRequest
from benchmarks.peers.peers import find_llama_binaries
from benchmarks.peers.turn import Turn
from benchmarks.peers.weights import Weights
from benchmarks.peers.worker_peer import WorkerPeer

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
OPENINGS = (
    "The best way to learn a language is",
    "On the morning of the storm the harbour master",
    "A good library for numbers should",
    "Dear Sir or Madam, I am writing to",
    "The history of the lighthouse begins",
    "If I had to choose one tool, it would be",
    "In the year 1850 the town",
    "Water boils at a lower temperature when",
)


def make_peers(folder: Path, num_beams: int) -> list[WorkerPeer]:
    """Who takes part; the first two are ours."""
    weights = Weights(folder / "weights", find_llama_binaries(folder))
    model, beams = str(weights.transformers_folder), str(num_beams)
    own, vllm = Path(sys.executable), folder / "vllm" / "bin" / "python"
    entries = (
        ("Beamline w8a8", own, "beamline_beams.py", "w8a8"),
        ("Beamline fp32", own, "beamline_beams.py", "fp32"),
        ("transformers", own, "transformers_beams.py", model),
        ("vLLM", vllm, "vllm_beams.py", model),
    )
    return [
        WorkerPeer(
            name=name,
            python=python,
            script=script,
            arguments=(argument, beams),
            environment=ENVIRONMENT,
        )
        for name, python, script, argument in entries
    ]


def measure(
    peers: Sequence[WorkerPeer], requests: Sequence[PromptRequest], *, num_turns: int
) -> dict[str, Turn]:
    """The fastest turn of each; two requests before it warm up."""
    best: dict[str, Turn] = {}
    for peer in peers:
        peer.take_turn(requests[:2], 2)
    for _ in range(num_turns):
        for peer in peers:
            turn = peer.take_turn(requests, len(requests))
            if peer.name not in best or turn.seconds < best[peer.name].seconds:
                best[peer.name] = turn
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--num-beams", type=int, default=4)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--without", nargs="*", default=[])
    arguments = parser.parse_args()
    requests = [
        PromptRequest(
            text=f"{OPENINGS[at % len(OPENINGS)]}{' (again)' * (at // len(OPENINGS))}",
            max_new_tokens=arguments.new_tokens,
        )
        for at in range(arguments.requests)
    ]
    peers = [
        peer
        for peer in make_peers(arguments.environments, arguments.num_beams)
        if peer.name not in arguments.without
    ]
    try:
        for peer in peers:
            peer.start()
        best = measure(peers, requests, num_turns=arguments.turns)
    finally:
        for peer in peers:
            peer.close()
    ours = [name for name in best if name.startswith("Beamline")]
    for name, turn in best.items():
        rate = turn.tokens_per_second(is_prefill=False)
        ratios = ", ".join(
            f"{best[our].tokens_per_second(is_prefill=False) / rate:.2f} times slower than {our}"
            for our in ours
            if our != name
        )
        print(f"{name}: {rate:.1f} tok/s ({turn.num_new_tokens} tokens); {ratios}")
        print(f"    {turn.text[:90]!r}")


if __name__ == "__main__":
    main()
