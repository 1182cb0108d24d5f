"""A program of torch, compiled ahead of time: it runs without the model's own code.

Called by `app/loading.py` for folders that `beamline optimize` wrote as programs.
"""

from app.runtimes.runnable_model import OpenedRunner, RunnableModel
from app.state import ServedModel
from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from optimize.check import CheckedProgram
from optimize.program_manifest import read_program_manifest


def prepare_program_model(checked: CheckedProgram) -> RunnableModel:
    """Load the program, which was checked when it was written."""
    from engine.program_runner import ProgramRunner  # noqa: PLC0415  imports torch
    from optimize.light_tokenizer import load_light_tokenizer  # noqa: PLC0415
    from optimize.torch_program import load_program  # noqa: PLC0415

    manifest = read_program_manifest(checked.folder)
    shape = DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
    )
    program = load_program(checked.folder, manifest)

    def open_runner(config: EngineConfig) -> OpenedRunner:
        return OpenedRunner(
            ProgramRunner(program, shape, config, vocab_size=manifest.vocab_size), config
        )

    return RunnableModel(
        tokenizer=load_light_tokenizer(checked.folder),
        served=ServedModel(
            name=checked.name,
            revision=f"{manifest.source_revision}-{manifest.technique.value}",
            runtime="torch",
            device="cpu",
            dtype="float32",
            weights="float32",
        ),
        eos_token_ids=frozenset(manifest.eos_token_ids),
        cache_bytes_per_token=lambda: shape.bytes_per_token,
        open=open_runner,
    )
