"""What a run finds in the file of an earlier one: whole lines count, and only its own."""

import json

import pytest

from app.batch.answers_file import AnswersFile, AnswersUnusable
from app.batch.lines import Line


def line(number):
    return Line(number=number, digest=f"digest{number}")


def answer(number, **content):
    return json.dumps({"line": number, "digest": f"digest{number}"} | content) + "\n"


def resumed(path, numbers):
    """Which lines count as answered, in order until the first that does not."""
    file = AnswersFile(path)
    return file, [number for number in numbers if file.has_answered(line(number))]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.mark.parametrize("torn", ["", "{", '{"line": 4', answer(4).rstrip("\n"), "\x00\x00"])
def test_a_torn_last_line_is_cut_off(path, torn):
    whole = answer(1, fingerprint="fp_a") + answer(3, error={})
    path.write_text(whole + torn)
    file, answered = resumed(path, (1, 3, 4))
    assert answered == [1, 3]
    with file.open() as output:
        output.write(b"next\n")
    assert path.read_text() == whole + "next\n"
    assert file.fingerprint == "fp_a"


def test_the_fingerprint_is_found_in_a_list(path):
    path.write_text(answer(1, results=[{"error": {}}, {"fingerprint": "fp_b"}]))
    file, _ = resumed(path, (1,))
    assert file.fingerprint == "fp_b"


def test_an_empty_file_answers_nothing(path):
    path.touch()
    file, answered = resumed(path, (1, 2))
    assert answered == []
    with file.open() as output:
        assert output.tell() == 0


@pytest.mark.parametrize("second", [Line(number=2, digest="other"), line(3)])
def test_answers_to_another_line_are_refused(path, second):
    path.write_text(answer(1) + answer(2))
    file = AnswersFile(path)
    assert file.has_answered(line(1))
    with pytest.raises(AnswersUnusable, match=f"line {second.number} of the input"):
        file.has_answered(second)


def test_more_answers_than_lines_are_refused_and_kept(path):
    path.write_text(answer(1) + answer(2))
    file, _ = resumed(path, (1,))
    with pytest.raises(AnswersUnusable, match="more lines than the input"):
        file.open()
    assert path.read_text() == answer(1) + answer(2)


@pytest.mark.parametrize("foreign", ["no JSON", "[1]", '{"text": "a"}', '{"line": "x"}'])
def test_a_file_of_something_else_is_refused_and_kept(path, foreign):
    path.write_text(foreign + "\n")
    with pytest.raises(AnswersUnusable, match=r"line 1 is no answer of `beamline generate`"):
        AnswersFile(path).has_answered(line(1))
    assert path.read_text() == foreign + "\n"
