"""What a chat reads and shows, on pipes."""

import io

import pytest

from app.chat.terminal import Terminal, harmless


def test_control_characters_are_shown_and_not_obeyed():
    assert harmless("a\x1b[31m\n\té\x07🙂") == "a\\x1b[31m\n\té\\x07🙂"


def test_a_line_that_ends_with_a_backslash_goes_on(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\\\ntwo\\\nthree\nnext\n"))
    terminal = Terminal()
    assert terminal.read() == "one\ntwo\nthree"
    assert terminal.read() == "next"
    with pytest.raises(EOFError):
        terminal.read()


def test_a_pipe_gets_answers_only(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    terminal = Terminal()
    terminal.greet("hello")
    terminal.show("answer")
    terminal.end_answer("3 tokens")
    assert capsys.readouterr().out == "answer\n"
