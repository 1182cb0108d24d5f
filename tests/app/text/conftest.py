"""A tiny random model behind a real engine, and grammars for its tokenizer."""

import pytest

from app.text.grammar.compiler import GrammarCompiler
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import GenerationRequest
from engine.torch_runner import TorchRunner
from tests.oracle.engine_run import EngineRun
from tests.tiny_llama import tiny_llama

CONTEXT_LENGTH = 1100


@pytest.fixture(scope="session")
def end(byte_level_tokenizer):
    return byte_level_tokenizer.eos_token_id


@pytest.fixture(scope="session")
def grammars(byte_level_tokenizer, end):
    return GrammarCompiler.build(
        byte_level_tokenizer,
        vocab_size=len(byte_level_tokenizer),
        eos_token_ids=frozenset({end}),
    )


@pytest.fixture(scope="session")
def held_engine(byte_level_tokenizer):
    module = tiny_llama(
        vocab_size=len(byte_level_tokenizer),
        context_length=CONTEXT_LENGTH,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    sizes = EngineConfig(max_rows=40, max_step_tokens=200, kv_cache_bytes=2**23)
    return Engine(TorchRunner.load(module, sizes, context_length=CONTEXT_LENGTH), sizes)


@pytest.fixture(scope="session")
def write(held_engine, grammars, byte_level_tokenizer, end):
    """Runs requests side by side; gives each one's sequences as pairs of text and why it ended."""

    def run(spec, strategies, *, seed=0, max_new_tokens=1000):
        run = EngineRun(held_engine)
        for strategy in strategies:
            run.submit(
                GenerationRequest(
                    request_id=strategy.name,
                    prompt_ids=(5, 6, 7),
                    strategy=strategy,
                    max_new_tokens=max_new_tokens,
                    seed=seed,
                    eos_token_ids=frozenset({end}),
                    constraint=grammars.compile(spec, num_rows=strategy.num_rows),
                )
            )
        run.finish()
        assert not run.failed
        return {
            strategy.name: [
                (
                    byte_level_tokenizer.decode(each.token_ids, skip_special_tokens=True),
                    each.finish_reason,
                )
                for each in run.finished[strategy.name].sequences
            ]
            for strategy in strategies
        }

    return run
