"""What the commands of a chat do to its conversation; a mistake changes nothing."""

import copy

import pytest

from app.bodies.body_parser import BodyParser
from app.chat.conversation import Conversation
from app.chat.partner import ChatFailed
from app.chat.slash_commands import HELP, SlashCommands
from decoding.registry import load_strategies

PARSER = BodyParser(load_strategies())


class CheckingPartner:
    """Knows what fields there are, as a model here does."""

    description = "nobody"

    def check(self, fields):
        try:
            PARSER.parse({"messages": [{"role": "user", "content": "?"}], **fields})
        except Exception as error:
            raise ChatFailed(str(error)) from error


@pytest.fixture
def conversation():
    conversation = Conversation(fields={"max_new_tokens": 9})
    conversation.ask("first?")
    conversation.answer("first.")
    conversation.ask("second?")
    conversation.answer("second.")
    return conversation


@pytest.fixture
def obey(conversation):
    return SlashCommands(conversation, CheckingPartner()).obey


def contents(conversation):
    return [(turn["role"], turn["content"]) for turn in conversation.body["messages"]]


def test_a_strategy_brings_its_parameters_and_drops_those_of_the_one_before(conversation, obey):
    assert "num_beams=3" in obey("/strategy beam num_beams=3").words
    assert conversation.body["num_beams"] == 3
    obey("/strategy top_k top_k=7 max_new_tokens=5")
    assert conversation.fields == {"strategy": "top_k", "top_k": 7, "max_new_tokens": 5}


def test_fields_are_set_and_unset_as_json_or_text(conversation, obey):
    obey('/set stop=\'["a b", "END"]\' repetition-penalty=1.2 seed=4')
    assert conversation.fields == {
        "max_new_tokens": 9,
        "stop": ["a b", "END"],
        "repetition_penalty": 1.2,
        "seed": 4,
    }
    obey('/set stop="a b"')
    assert conversation.fields["stop"] == "a b"
    obey("/unset stop repetition_penalty")
    assert conversation.fields == {"max_new_tokens": 9, "seed": 4}


def test_a_seed_is_set_and_given_up(conversation, obey):
    obey("/seed 12")
    assert conversation.body["seed"] == 12
    obey("/seed")
    assert "seed" not in conversation.body


def test_the_system_message_comes_first_and_survives_a_reset(conversation, obey):
    obey("/system You are [bold]brief[/].")
    obey("/reset")
    assert contents(conversation) == [("system", "You are [bold]brief[/].")]
    obey("/system")
    assert contents(conversation) == []


def test_undo_forgets_the_last_question_with_its_answer(conversation, obey):
    obey("/undo")
    assert contents(conversation) == [("user", "first?"), ("assistant", "first.")]


def test_again_takes_the_question_back_to_ask_it(conversation, obey):
    assert obey("/again").question == "second?"
    assert contents(conversation) == [("user", "first?"), ("assistant", "first.")]


def test_status_tells_what_is_set(obey):
    obey("/system brief")
    words = obey("/status").words
    assert words == "strategy=sample max_new_tokens=9; 4 messages; system: brief"


@pytest.mark.parametrize("line", ["/quit", "/exit"])
def test_the_user_can_leave(obey, line):
    assert obey(line).is_over


def test_help_names_every_command(obey):
    assert obey("/help").words == HELP
    with pytest.raises(ChatFailed) as error:
        obey("/frobnicate")
    known = str(error.value).split("there are: ")[1].split(", ")
    assert {name for name in known if name not in HELP} == {"/exit"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/strategy beem", "beem"),
        ("/strategy beam num_beams=x", "num_beams"),
        ("/strategy beam num_beams", "NAME=VALUE"),
        ("/set", "field=value"),
        ("/set num_beams=3", "num_beams"),
        ("/set text=a", "text"),
        ("/set messages=[]", "messages"),
        ('/set stop="a', "quotation mark"),
        ("/unset stop", "stop"),
        ("/unset", "max_new_tokens"),
        ("/seed x", "seed"),
    ],
)
def test_mistakes_are_named_and_change_nothing(conversation, obey, line, words):
    before = copy.deepcopy(conversation)
    with pytest.raises(ChatFailed, match=words):
        obey(line)
    assert conversation == before


def test_nothing_asked_cannot_be_asked_again():
    obey = SlashCommands(Conversation(fields={}), CheckingPartner()).obey
    for line in ("/again", "/undo"):
        with pytest.raises(ChatFailed, match="nothing was asked"):
            obey(line)
