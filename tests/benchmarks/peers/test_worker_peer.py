"""A worker is a real process: asked in lines, paused between turns, its last words kept."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.load.workload import PromptRequest
from benchmarks.peers import worker_peer
from benchmarks.peers.turn import PeerFailed
from benchmarks.peers.worker_peer import WorkerPeer

SERVING = Path(worker_peer.__file__).parent / "workers" / "serving.py"
WORKER = """
import sys
import time
print("a library's chatter")
from serving import serve
def answer(prompts, new_tokens, concurrency):
    print("more chatter", end="")
    if prompts[0] == "raise":
        raise ValueError("not like this")
    if prompts[0] == "die":
        print("out of memory", file=sys.stderr); sys.stderr.flush()
        import os; os._exit(1)
    return len(prompts), new_tokens * len(prompts), sys.argv[1] + prompts[0]
serve(answer)
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_peer, "WORKERS", tmp_path)
    (tmp_path / "serving.py").write_text(SERVING.read_text())
    (tmp_path / "echo.py").write_text(WORKER)
    made = WorkerPeer(
        name="echo", python=Path(sys.executable), script="echo.py", arguments=["model "]
    )
    made.start()
    yield made
    made.close()


def ask(peer, *texts):
    requests = [PromptRequest(text=text, max_new_tokens=3) for text in texts]
    return peer.take_turn(requests, len(requests))


def test_a_worker_answers_again_and_again(peer):
    first, second = ask(peer, "one", "two"), ask(peer, "three")
    assert (first.num_prompt_tokens, first.num_new_tokens, first.text) == (2, 6, "model one")
    assert second.text == "model three"
    assert first.seconds > 0


def test_a_worker_is_stopped_between_its_turns(peer):
    ask(peer, "one")
    process = psutil.Process(peer._process.process.pid)
    while process.status() != psutil.STATUS_STOPPED:  # or the test's own time is over
        time.sleep(0.01)
    assert peer.memory_bytes() > 2**20


def test_what_a_library_raises_is_the_answer_and_the_worker_lives(peer):
    with pytest.raises(PeerFailed, match="ValueError: not like this"):
        ask(peer, "raise")
    assert ask(peer, "one").text == "model one"


def test_a_worker_that_dies_leaves_its_last_words(peer):
    with pytest.raises(PeerFailed, match="out of memory"):
        ask(peer, "die")


def test_a_program_that_is_not_there_is_a_failure(tmp_path):
    absent = WorkerPeer(name="none", python=tmp_path / "python", script="echo.py", arguments=[])
    with pytest.raises(PeerFailed, match="cannot start"):
        absent.start()
