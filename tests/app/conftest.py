"""A whole service on a tiny random Llama and a tiny tokenizer trained here: all parts are real.

`service` is an application whose engine a test can hold still (`service.hold`), so that what
happens in the middle of a generation needs neither luck nor sleep.
"""

import asyncio
import time

import pytest

from app.generation.cache import ResponseCache
from app.generation.cache_key import ModelIdentity
from app.generation.event_router import EventRouter
from app.generation.generator import TextGenerator
from app.generation.jobs import JobStore
from app.generation.request_limits import RequestLimits
from app.generation.urgency import NO_RULES
from app.main import create_app
from app.settings import Settings
from app.state import ServedModel, ServiceStatus
from app.text.grammar.compiler import GrammarCompiler
from engine.config import EngineConfig
from engine.engine import Engine
from engine.torch_runner import TorchRunner
from engine.worker import EngineWorker
from tests.app.driven_service import HeldRunner, Service
from tests.app.held_clock import HeldClock
from tests.app.tiny_tokenizers import train_byte_level, train_pieces
from tests.tiny_llama import tiny_llama

CONTEXT_LENGTH = 128


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture(scope="session")
def byte_level_tokenizer():
    return train_byte_level()


@pytest.fixture(scope="session")
def piece_tokenizer():
    return train_pieces()


@pytest.fixture(scope="session")
def engine_config():
    return EngineConfig(max_rows=8, max_step_tokens=64, block_size=4, kv_cache_bytes=2**20)


@pytest.fixture(scope="session")
def load_tiny(byte_level_tokenizer, engine_config):
    """Makes a runner of a random Llama; the seed decides which."""

    def load(seed):
        module = tiny_llama(
            vocab_size=len(byte_level_tokenizer),
            context_length=CONTEXT_LENGTH,
            seed=seed,
            initializer_range=0.5,
        )
        return TorchRunner.load(module, engine_config, context_length=CONTEXT_LENGTH)

    return load


@pytest.fixture(scope="session")
def tiny_runner(load_tiny):
    return load_tiny(0)


@pytest.fixture(scope="session")
def draft_runner(load_tiny):
    """The same model once more: it is right where nothing else has a say in the choice."""
    return load_tiny(0)


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_folder=tmp_path, max_body_bytes=65536, max_jobs=3)


@pytest.fixture
def max_waiting_requests():
    return 64


@pytest.fixture
def default_guesses():
    return 0


@pytest.fixture
def engine_clock():
    return time.monotonic


@pytest.fixture
def urgency_rules():
    return NO_RULES


@pytest.fixture
async def service(
    byte_level_tokenizer,
    tiny_runner,
    draft_runner,
    default_guesses,
    engine_config,
    engine_clock,
    settings,
    max_waiting_requests,
    urgency_rules,
):
    app = create_app(settings)
    parts = app.state.services
    router = EventRouter()
    loop = asyncio.get_running_loop()
    runner = HeldRunner(tiny_runner)
    worker = EngineWorker(
        Engine(runner, engine_config, draft=draft_runner, clock=engine_clock),
        deliver=lambda events: loop.call_soon_threadsafe(router.dispatch, events),
        max_waiting_requests=max_waiting_requests,
    )
    parts.model = ServedModel(
        name="tiny", revision="1", runtime="torch", device="cpu", dtype="float32", weights="float32"
    )
    parts.worker, parts.cache = worker, ResponseCache(max_entries=100, max_bytes=2**20)
    parts.generator = TextGenerator(
        tokenizer=byte_level_tokenizer,
        worker=worker,
        router=router,
        executor=parts.executor,
        cache=parts.cache,
        metrics=parts.metrics,
        model=ModelIdentity(name="tiny", revision="1", runtime="torch"),
        grammars=GrammarCompiler.build(
            byte_level_tokenizer,
            vocab_size=len(byte_level_tokenizer),
            eos_token_ids=frozenset({byte_level_tokenizer.eos_token_id}),
        ),
        request_limits=RequestLimits(
            max_prompt_tokens=settings.max_prompt_tokens,
            max_new_tokens=settings.max_new_tokens,
            max_sequences=settings.max_sequences,
            max_texts=settings.max_texts,
            max_stops=settings.max_stops,
        ),
        eos_token_ids=frozenset({byte_level_tokenizer.eos_token_id}),
        clock=parts.clock,
        shared_cache=parts.shared_cache,
        is_cache_per_key=not settings.cache_across_keys,
        default_guesses=default_guesses,
        urgency_rules=urgency_rules,
    )
    parts.jobs = JobStore(max_jobs=3, ttl_seconds=60.0, clock=parts.clock)
    parts.status = ServiceStatus.READY
    worker.start()
    service = Service(app, runner, worker)
    yield service
    service.release()
    await service.client.aclose()
    parts.jobs.close()
    await service.until(service.is_idle)
    worker.close()
    if parts.shared_cache is not None:
        await parts.shared_cache.close()
    parts.executor.close()
