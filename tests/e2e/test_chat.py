"""`beamline chat` in a real terminal, with a model in the process and with a server."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pexpect
import platformdirs
import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from app.cli import app
from tests.e2e.conftest import START_SECONDS, beamline, server_environment

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
READY = "Ctrl-D leaves.\r\n> "


@pytest.fixture(scope="module")
def talking_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """The tiny model with a chat template."""
    folder = tmp_path_factory.mktemp("talking") / "tiny-talker"
    shutil.copytree(tiny_model_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def chat(tmp_path):
    """Starts `beamline chat` in a terminal; ends what a test leaves."""
    started = []

    def start(*arguments: str, cache_folder: Path = tmp_path) -> pexpect.spawn:
        command, *rest = beamline("chat", *arguments)
        environment = server_environment(BEAMLINE_CACHE_FOLDER=str(cache_folder), TERM="dumb")
        terminal = pexpect.spawn(
            command, rest, env=environment, encoding="utf-8", timeout=START_SECONDS
        )
        terminal.setwinsize(50, 200)
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        if terminal.isalive():
            terminal.kill(signal.SIGKILL)
            terminal.wait()
        terminal.close()


def here(folder: Path) -> list[str]:
    return ["--model", str(folder), "--runtime", "torch", "--device", "cpu"]


def test_a_conversation_in_a_terminal(chat, talking_folder):
    terminal = chat(*here(talking_folder), "-p", "max_new_tokens=5", "--system", "Be brief.")
    terminal.expect(r"tiny-talker \(float32 on torch, cpu\)")
    terminal.expect(READY)
    terminal.sendline("hello")
    terminal.expect(r"5 tokens, [\d.]+ tokens/s, length, seed \d+")
    terminal.sendline("/strategy beam num_beams=2 num_return_sequences=2")
    terminal.expect("strategy=beam max_new_tokens=5 num_beams=2 .*2 messages; system: Be brief.")
    terminal.sendline("and you?")
    terminal.expect("\n2: ")
    terminal.expect("10 tokens")
    terminal.sendline("/strategy beem")
    terminal.expect("error: .*no strategy 'beem'")
    terminal.sendline("/status")
    terminal.expect("strategy=beam .*4 messages")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(chat, talking_folder):
    terminal = chat(*here(talking_folder), "-s", "greedy", "-p", "max_new_tokens=60000")
    terminal.expect(READY)
    terminal.sendline("hello")
    terminal.expect("hello\r\n..")  # its echo, then the beginning of the answer
    terminal.sendintr()
    terminal.expect("stopped")
    terminal.expect("> ")
    terminal.sendintr()
    terminal.expect("/quit or Ctrl-D leaves")
    terminal.sendline("/set max_new_tokens=3")
    terminal.expect("max_new_tokens=3; 2 messages")
    terminal.sendline("/again")
    terminal.expect("3 tokens")
    terminal.sendline("/quit")
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0


def test_a_server_is_talked_with(chat, talking_folder, run):
    server = run(beamline("serve", "--port", "0", *here(talking_folder)))
    terminal = chat("--url", server.ready_url(), "-s", "greedy", "-p", "max_new_tokens=4")
    terminal.expect("tiny-talker at http")
    terminal.expect(READY)
    terminal.sendline("hello")
    terminal.expect("4 tokens, .*, length")
    terminal.sendline("/set num_beams=3")
    terminal.expect("num_beams=3")
    terminal.sendline("hello")
    terminal.expect("error: num_beams: Strategy greedy has no num_beams")
    terminal.sendline("/unset num_beams")
    terminal.expect("max_new_tokens=4; 2 messages")  # the question that failed is not kept
    terminal.sendline("/set max_new_tokens=60000")
    terminal.expect("2 messages")
    terminal.sendline("hello")
    terminal.expect("hello\r\n..")
    terminal.sendintr()
    terminal.expect("stopped")
    server.close()
    terminal.sendline("hello")
    terminal.expect("error: the server was lost")
    terminal.sendline("/quit")
    terminal.expect(pexpect.EOF)


@pytest.mark.smollm2
@pytest.mark.slow
def test_the_default_model_answers_and_remembers(chat):
    terminal = chat(
        *("-s", "greedy", "-p", "max_new_tokens=40"),
        cache_folder=Path(platformdirs.user_cache_dir("beamline")),
    )
    terminal.expect(READY)
    terminal.sendline("What is the capital of Italy?")
    terminal.expect("Rome")
    terminal.expect("tokens/s")
    terminal.sendline("/strategy beam num_beams=4")
    terminal.expect("num_beams=4")
    terminal.sendline("What was my question?")
    terminal.expect("capital of Italy")
    terminal.expect("tokens/s")


def test_questions_from_a_pipe_get_answers_and_nothing_else(talking_folder, tmp_path):
    done = subprocess.run(
        beamline("chat", *here(talking_folder), "-s", "greedy", "-p", "max_new_tokens=4"),
        input="hello\n/unknown\n\nand you?\n",
        capture_output=True,
        text=True,
        env=server_environment(BEAMLINE_CACHE_FOLDER=str(tmp_path)),
        timeout=START_SECONDS,
    )
    assert done.returncode == 1  # one of its lines failed
    assert "there is no /unknown" in done.stderr
    assert "tokens/s" not in done.stdout
    assert len(done.stdout) > len("\n\n")


def test_a_model_without_a_chat_template_is_refused(tiny_model_folder, tmp_path):
    done = subprocess.run(
        beamline("chat", *here(tiny_model_folder)),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=server_environment(BEAMLINE_CACHE_FOLDER=str(tmp_path)),
        timeout=START_SECONDS,
    )
    assert done.returncode == 2
    assert "no chat template" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--url", "127.0.0.1:8000"], "http://", 2),
        (["--url", "http://127.0.0.1:9", "--model", "m"], "--model: the server", 2),
        (["--api-key", "k"], "give its --url", 2),
        (["-p", "x"], "NAME=VALUE", 2),
        (["--max-rows", "0"], "--max-rows", 2),
        (["--url", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9", 1),
    ],
)
def test_mistakes_are_one_clean_line(arguments, words, code):
    answer = CliRunner().invoke(app, ["chat", *arguments], env={"COLUMNS": "200"})
    assert answer.exit_code == code, answer.output
    assert re.search(re.escape(words), " ".join(answer.output.split()))
