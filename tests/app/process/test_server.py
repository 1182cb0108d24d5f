"""The server follows its service: drains on a signal, ends when it cannot serve."""

import asyncio
import signal
from dataclasses import dataclass, field

import pytest
from fastapi import FastAPI

from app.lifespan import build_services
from app.process.listener import open_socket
from app.process.server import DrainingServer
from app.settings import Settings
from app.state import Services


@dataclass(kw_only=True)
class ReportedWorker:
    """What a worker says of itself; a real one cannot be made to die on demand."""

    is_healthy: bool = True
    seconds_since_heartbeat: float = 0.0


@dataclass(kw_only=True)
class ReportedProcesses:
    """What is said of the other processes of a split model."""

    problem: str | None = None


@dataclass(kw_only=True)
class CountedGenerator:
    """What the server sees of a generator; ends its generations when told to."""

    num_in_flight: int = 0
    reasons: list[str] = field(default_factory=list)

    def abort_all(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def services(clock) -> Services:
    services = build_services(Settings(grace_seconds=30.0))
    services.clock = clock
    services.worker = ReportedWorker()
    services.generator = CountedGenerator()
    yield services
    services.executor.close()


@pytest.fixture
async def running(services):
    """A server that is serving, and its task."""
    app = FastAPI()
    app.state.services = services
    settled = asyncio.Event()
    server = DrainingServer(app, on_settled=settled.set)
    with open_socket("127.0.0.1", 0) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        services.become_ready()
        await settled.wait()
        yield server, task
        server.should_exit = True
        await task


async def test_failed_model_ends_the_server_with_code_1(running, services):
    server, task = running
    services.become_failed(RuntimeError("broken"))
    await task
    assert server.exit_code == 1


async def test_dead_engine_ends_the_server_with_code_1(running, services):
    server, task = running
    services.worker.is_healthy = False
    await task
    assert server.exit_code == 1
    assert services.status == "failed"


async def test_a_failed_server_tells_those_that_wait_for_a_step_that_hangs(running, services):
    """Their engine says nothing any more, and the server waits for their connections."""
    server, task = running
    services.generator.num_in_flight = 1
    services.become_failed(RuntimeError("a process is gone"))
    await task
    assert services.generator.reasons == ["a process is gone"]
    assert server.config.timeout_graceful_shutdown is not None


@pytest.mark.parametrize("has_shards", [True, False])
async def test_a_stall_ends_the_server_if_other_processes_are_in_the_step(
    running, services, has_shards
):
    server, task = running
    services.shards = ReportedProcesses() if has_shards else None
    services.worker.seconds_since_heartbeat = 1000.0
    assert await server.on_tick(1) == has_shards
    if has_shards:
        await task
        assert services.status_reason == "the engine has given no sign of life for 1000 s"
    assert server.exit_code == (1 if has_shards else 0)


async def test_signal_without_running_work_ends_with_code_0(running, services):
    server, task = running
    server.handle_exit(signal.SIGTERM, None)
    await task
    assert server.exit_code == 0
    assert services.generator.reasons == []


async def test_drain_ends_when_the_last_generation_does(running, services):
    server, task = running
    services.generator.num_in_flight = 1
    server.handle_exit(signal.SIGTERM, None)
    assert not await server.on_tick(1)
    assert services.status == "draining"
    assert services.status_reason == "received SIGTERM"
    services.generator.num_in_flight = 0
    await task
    assert services.generator.reasons == []


async def test_generations_are_ended_when_the_grace_time_is_over(running, services, clock):
    server, task = running
    services.generator.num_in_flight = 2
    server.handle_exit(signal.SIGINT, None)
    assert not await server.on_tick(1)
    clock.now += 29.0
    assert not await server.on_tick(1)
    clock.now += 2.0
    await task
    assert services.generator.reasons == ["the service is shutting down"]
    assert server.exit_code == 0
