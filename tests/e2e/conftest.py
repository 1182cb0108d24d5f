"""A real `beamline serve` process on a tiny random model, and what tests need to talk to it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny_llama import NO_SPECIAL_TOKENS, tiny_llama

START_SECONDS = 120.0  # generous: a loaded machine imports torch slowly
CORPUS = ("The sea is wide and the ships are small. Beams of light cross the harbour at night.",)

CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """A Llama of a few thousand weights with a byte-level tokenizer, as `save_pretrained` does."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    save_tiny_model(folder, build_tokenizer())
    return folder


@pytest.fixture(scope="session")
def chat_model_folder(tmp_path_factory) -> Path:
    """The same with a chat template and an end token."""
    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    tokenizer.chat_template = CHAT_TEMPLATE
    save_tiny_model(folder, tokenizer)
    return folder


def save_tiny_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.save_pretrained(folder)
    special_tokens = NO_SPECIAL_TOKENS | {"eos_token_id": tokenizer.eos_token_id}
    module = tiny_llama(vocab_size=len(tokenizer), context_length=65_536, **special_tokens)
    module.save_pretrained(folder)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on a sentence; its end token never comes out of a random model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class ServerProcess:
    """A child process that serves, its URL, and its log lines as they come."""

    start_seconds = START_SECONDS

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.rstrip())
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The first match in its output; fails when the process ends without it."""

        def found() -> re.Match[str] | None:
            matches = (re.search(pattern, line) for line in self.lines)
            return next((match for match in matches if match), None)

        with self._grown:
            self._grown.wait_for(lambda: found() or not self._reader.is_alive(), self.start_seconds)
            match = found()
        assert match, f"{pattern!r} did not appear in:\n{self.output}"
        return match

    def ready_url(self) -> str:
        """Where it listens, once it says that it is ready."""
        return self.wait_for_line(r"ready: (https?://\S+) serves")[1]

    def client(self) -> httpx.Client:
        """A client for it, once it is ready."""
        return httpx.Client(base_url=self.ready_url(), timeout=60.0)

    def wait(self) -> int:
        """Its exit code, once it has ended and all its output is read."""
        code = self.process.wait(self.start_seconds)
        self._reader.join()
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        self.process.stdout.close()


def server_environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "BEAMLINE" not in name}
    return (
        kept | {"OMP_NUM_THREADS": "2", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"} | settings
    )


def beamline(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from app.cli import main; main()", *arguments]


def serve_tiny(folder: Path) -> list[str]:
    return ["serve", "--model", str(folder), "--port", "0", "--device", "cpu"]


Run = Callable[..., ServerProcess]
StartServer = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def service_cache(tmp_path_factory) -> Path:
    """Where processes keep what they make of a model: the next one is ready ten seconds sooner."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(service_cache) -> Iterator[Run]:
    """Starts any command with `BEAMLINE_*` settings; kills what a test leaves."""
    started: list[ServerProcess] = []

    def run_command(command: list[str], **settings: str) -> ServerProcess:
        settings = {"BEAMLINE_CACHE_FOLDER": str(service_cache)} | settings
        started.append(ServerProcess(command, server_environment(**settings)))
        return started[-1]

    yield run_command
    for server in started:
        server.close()


@pytest.fixture
def start(run, tiny_model_folder) -> StartServer:
    """Starts `beamline serve` on the tiny model and a free port, with more options."""

    def start_server(*options: str) -> ServerProcess:
        return run(beamline(*serve_tiny(tiny_model_folder), *options))

    return start_server


@pytest.fixture(scope="session")
def serve_forever() -> Iterator[Callable[..., str]]:
    """Starts a `beamline` process that lives as long as the tests; gives its URL when ready."""
    started: list[ServerProcess] = []

    def serve(*arguments: str, cache_folder: Path) -> str:
        environment = server_environment(BEAMLINE_CACHE_FOLDER=str(cache_folder))
        started.append(ServerProcess(beamline(*arguments), environment))
        return started[-1].ready_url()

    yield serve
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def shared_url(serve_forever, tiny_model_folder, service_cache) -> str:
    """The URL of one server on the tiny model, for every test that leaves it running."""
    return serve_forever(*serve_tiny(tiny_model_folder), cache_folder=service_cache)


@pytest.fixture(scope="session")
def chat_url(serve_forever, chat_model_folder, service_cache) -> str:
    """The same on the model with a chat template and an end token."""
    return serve_forever(*serve_tiny(chat_model_folder), cache_folder=service_cache)


@pytest.fixture(scope="session")
def connect() -> Callable[[str], httpx.Client]:
    """Makes a client for a server's URL."""
    return partial(httpx.Client, timeout=120.0)


@pytest.fixture
def client(shared_url, connect) -> Iterator[httpx.Client]:
    with connect(base_url=shared_url) as client:
        yield client
