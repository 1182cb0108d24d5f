"""The head of a GGUF file is read right, and every damage is an error that names the file."""

import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimize.errors import CorruptModel, ModelError, UnsupportedModelFormat
from optimize.gguf_header import read_gguf_header
from optimize.source import find_default_model


def test_header_agrees_with_the_reference_reader(gguf_file):
    header = read_gguf_header(gguf_file)
    reference = GGUFReader(gguf_file)
    assert header.architecture == "llama"
    assert header.setting("context_length") == 128
    assert header.setting("attention.head_count_kv") == 2
    assert header.setting("rope.scaling.type") is None
    assert [(t.name, t.num_values, t.num_bytes) for t in header.tensors] == [
        (t.name, t.n_elements, t.n_bytes) for t in reference.tensors
    ]


@pytest.mark.smollm2
def test_header_of_the_embedded_default_is_read():
    header = read_gguf_header(find_default_model())
    assert header.architecture == "llama"
    assert header.num_parameters == 134_515_008
    assert header.setting("context_length") == 8192


def test_other_file_is_no_gguf_file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(CorruptModel, match=r"not a GGUF file.*give the folder"):
        read_gguf_header(path)


def test_empty_file_is_no_gguf_file(tmp_path):
    path = tmp_path / "empty.gguf"
    path.touch()
    with pytest.raises(CorruptModel, match="not a GGUF file"):
        read_gguf_header(path)


def test_truncated_download_is_found(gguf_file, tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf_file.read_bytes()[:-100])
    with pytest.raises(CorruptModel, match=r"cut short.*Download it again"):
        read_gguf_header(path)


def test_unknown_version_is_refused(gguf_file, tmp_path):
    path = tmp_path / "new.gguf"
    content = bytearray(gguf_file.read_bytes())
    content[4] = 9
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelFormat, match="GGUF version 9"):
        read_gguf_header(path)


@pytest.mark.parametrize("alignment", ["32", 0, 1.5])
def test_impossible_alignment_is_corrupt(write_gguf, tmp_path, alignment):
    path = tmp_path / "unaligned.gguf"
    write_gguf(path, {"general.alignment": alignment})
    with pytest.raises(CorruptModel, match="an alignment of"):
        read_gguf_header(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_head_never_escapes_as_another_error(gguf_file, tmp_path, data):
    content = bytearray(gguf_file.read_bytes()[:4096])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(4, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        read_gguf_header(path)
