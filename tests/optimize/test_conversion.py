"""A conversion happens once, is whole or absent, and survives being killed or damaged."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from optimize.conversion import convert_once, is_finished
from optimize.errors import CacheUnusable, ConversionFailed, NotEnoughMemory
from optimize.gguf_header import read_gguf_header
from optimize.prepare import prepare_model
from optimize.report import ignore_progress

# Prints a line for each stage; at the stage named by the third argument it says so and stops.
STARTING_PROCESS = """
import signal, sys
from pathlib import Path
from optimize.prepare import prepare_model
from optimize.spec import ModelSpec

def progress(stage, fraction):
    print(stage, fraction, flush=True)
    if stage.startswith("converting") and fraction >= stop_at:
        print("STOPPED", flush=True)
        signal.pause()

source, cache, stop_at = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
print("READY", flush=True)
sys.stdin.readline()
prepare_model(ModelSpec(source=source, device="cpu", cache_folder=cache), progress=progress)
print("PREPARED", flush=True)
"""
NEVER = "2.0"  # a fraction that no stage reaches


class Conversions:
    """Stands for the reading of a file: writes one, counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _file, _header, target, _report) -> None:
        self.count += 1
        (target / "config.json").write_text("{}")


@pytest.fixture
def conversions() -> Conversions:
    return Conversions()


@pytest.fixture
def convert(gguf_file, cache_folder, conversions) -> Callable[..., Path]:
    header = read_gguf_header(gguf_file)

    def convert(file: Path = gguf_file, convert=conversions) -> Path:
        converted = convert_once(
            file,
            header,
            cache_folder=cache_folder,
            convert=convert,
            progress=ignore_progress,
        )
        return converted.folder

    return convert


@pytest.fixture
def start(gguf_file, cache_folder) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that import everything, say READY and wait for a line."""
    with ExitStack() as processes:

        def start(stop_at: str = NEVER) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", STARTING_PROCESS, gguf_file, cache_folder, stop_at],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            processes.enter_context(process)  # closes its pipes and waits for its end
            processes.callback(process.kill)
            return process

        yield start


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    for line in process.stdout:
        if line.strip() == word:
            return
    pytest.fail(f"the process ended without saying {word}")


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_starting_at_once_convert_once(start, cache_folder):
    processes = [start(), start()]
    for process in processes:
        wait_for(process, "READY")
    for process in processes:
        go(process)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(output.endswith("PREPARED\n") for output in outputs)
    assert sum("converting (only once) 1.0" in output for output in outputs) == 1
    assert len([p for p in (cache_folder / "converted").iterdir() if p.is_dir()]) == 1


def test_start_after_a_kill_half_way_succeeds_and_cleans_up(
    start, cache_folder, gguf_file, spec_of
):
    killed = start(stop_at="0.8")
    wait_for(killed, "READY")
    go(killed)
    wait_for(killed, "STOPPED")
    (unfinished,) = [p for p in (cache_folder / "converted").iterdir() if p.is_dir()]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    prepared = prepare_model(spec_of(gguf_file))
    assert prepared.context_length == 128
    assert not unfinished.exists()
    (folder,) = [p for p in (cache_folder / "converted").iterdir() if p.is_dir()]
    assert is_finished(folder)


def test_finished_folder_is_used_without_the_lock(convert, conversions, cache_folder):
    first = convert()
    (cache_folder / "converted" / ".lock").unlink()
    assert convert() == first
    assert conversions.count == 1
    assert not (cache_folder / "converted" / ".lock").exists()


def test_finished_folder_in_a_cache_that_cannot_be_written_is_used(convert, cache_folder):
    first = convert()
    for hashes in (cache_folder / "hashes").iterdir():
        hashes.unlink()
    (cache_folder / "hashes").rmdir()
    (cache_folder / "hashes").write_text("in the way")
    assert convert() == first


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")])
def test_damaged_folder_is_converted_again(convert, conversions, damage):
    folder = convert()
    damage(folder / "config.json")
    assert convert() == folder
    assert conversions.count == 2
    assert is_finished(folder)
    assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == [folder.name]


def test_another_file_under_the_same_name_is_another_model(
    convert, conversions, gguf_file, tmp_path
):
    copy = tmp_path / gguf_file.name
    copy.write_bytes(gguf_file.read_bytes())
    assert convert(copy) == convert(gguf_file)
    with copy.open("ab") as file:
        file.write(b"changed")
    assert convert(copy) != convert(gguf_file)
    assert conversions.count == 2


def test_failed_conversion_leaves_nothing_and_the_next_one_succeeds(convert, cache_folder):
    def fail(_file, _header, target, _report):
        (target / "half").write_text("half")
        raise ConversionFailed("no")

    with pytest.raises(ConversionFailed):
        convert(convert=fail)
    assert [p.name for p in (cache_folder / "converted").iterdir()] == [".lock"]
    assert is_finished(convert())


def test_cache_folder_that_is_a_file_is_an_error_with_a_remedy(convert, cache_folder):
    cache_folder.write_text("in the way")
    with pytest.raises(CacheUnusable, match="Choose a cache folder"):
        convert()


def test_full_disk_is_refused_before_converting(convert, conversions, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("optimize.memory.shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(CacheUnusable, match=r"its disk has 0\.00 GiB free"):
        convert()
    assert conversions.count == 0


def test_too_little_memory_is_refused_before_converting(convert, conversions, monkeypatch):
    monkeypatch.setattr("optimize.memory.available_memory_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemory, match="of main memory"):
        convert()
    assert conversions.count == 0
