"""Makes one grammar of a request's tools: the text is what is said, or calls, in the model's form.

Written in llguidance's dialect of Lark (its docs/syntax.md, "Tool calling" and "Special tokens").
Text is free until the format's trigger has come; from there on a call of a function that may be
called follows, with arguments of its schema, then further calls or the end. `preparation.py` asks
for it; `app/text/grammar/compiler.py` compiles what it gives.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.text.grammar.compiler import JSON_OPTIONS
from app.text.grammar.spec import GrammarKind, GrammarSpec
from app.text.tools.formats import CallFormat
from app.text.tools.spec import Function, ToolUse

FREE_TEXT = r"/(.|\n)+/"
NO_BRACE_TEXT = r"/[ \n\r\t]*[^ \n\r\t{](.|\n)*/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallGrammar:
    """Writes grammars for one model: its form of calls, and the tokens that no text spells."""

    form: CallFormat
    special_ids: Mapping[str, int]  # of tokens that text cannot stand for in a grammar, by text
    sayable_ids: Sequence[int]  # those of them that a text for people may hold

    def build(self, use: ToolUse, content: GrammarSpec | None = None) -> GrammarSpec:
        """The grammar of an answer; `content` holds the text to JSON where nothing is called."""
        heads = [self.form.first_head + each.name for each in use.callables]
        further = self.form.separator is not None and use.allows_several
        rules = [
            "%llguidance {}",
            f"start: {self._start(use, content)}",
            f"calls: {self._calls(further=further)}",
            *self._alternatives("first", [head[len(self.form.trigger) :] for head in heads]),
        ]
        if further:
            before = f"{self.form.separator}{self.form.before_name}"
            rules += self._alternatives("next", [before + each.name for each in use.callables])
        rules += [f"arguments{at}: %json {_schema(each)}" for at, each in enumerate(use.callables)]
        return GrammarSpec(kind=GrammarKind.GRAMMAR, text="\n".join(rules))

    def _start(self, use: ToolUse, content: GrammarSpec | None) -> str:
        trigger = self._literal(self.form.trigger)
        if use.must_call:
            return f"{trigger} calls"
        if content is not None:
            return f"content | {trigger} calls\ncontent: %json {_content_schema(content)}"
        if not self.form.trigger:
            return f"text? | calls\ntext: TEXT {self._sayable('TEXT_ON')}\n" + (
                f"TEXT: {NO_BRACE_TEXT}\nTEXT_ON: {FREE_TEXT}"
            )
        # The trigger counts however it is spelled: by a token of its own or by several.
        heads = f"spelled | said {trigger}" if self._special_in(self.form.trigger) else "spelled"
        return (
            f"said | ({heads}) calls\n"
            f"said: TEXT? {self._sayable('TEXT')}\n"
            "spelled: said head\n"
            f"head[lazy]: /(.|\\n)*/ {_quoted(self.form.trigger)}\n"
            f"TEXT: {FREE_TEXT}"
        )

    def _sayable(self, text: str) -> str:
        """Tokens of their own that may stand in a text for people, with more text between them."""
        if not self.sayable_ids:
            return ""
        ids = ",".join(map(str, self.sayable_ids))
        return f"(<[{ids}]> {text}?)*"

    def _calls(self, *, further: bool) -> str:
        return " ".join(
            ["first", *(["next*"] if further else []), self._literal(self.form.closing)]
        )

    def _alternatives(self, rule: str, heads: Sequence[str]) -> list[str]:
        """A rule with one alternative a function, and these: up to the name, arguments, after."""
        names = [f"{rule}{at}" for at in range(len(heads))]
        after = self._literal(self.form.after_arguments)
        return [
            f"{rule}: {' | '.join(names)}",
            *(
                f"{name}: {self._literal(head + self.form.before_arguments)} arguments{at} {after}"
                for at, (name, head) in enumerate(zip(names, heads, strict=True))
            ),
        ]

    def _literal(self, text: str) -> str:
        """This text and no other, as a sequence of strings and special tokens."""
        found = self._special_in(text)
        if not found:
            return _quoted(text) if text else ""
        parts = re.split(f"({'|'.join(map(re.escape, found))})", text)
        return " ".join(
            f"<[{self.special_ids[part]}]>" if part in self.special_ids else _quoted(part)
            for part in parts
            if part
        )

    def _special_in(self, text: str) -> list[str]:
        """The special tokens that the text holds, longer ones first."""
        found = [token for token in self.special_ids if token and token in text]
        return sorted(found, key=len, reverse=True)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _schema(function: Function) -> str:
    """The schema of the arguments, with our own way to follow schemas in place of the caller's."""
    schema: dict[str, Any] = {"type": "object", **json.loads(function.parameters)}
    lenience = {} if function.is_strict else {"lenient": True, "coerce_one_of": True}
    return json.dumps(schema | {"x-guidance": JSON_OPTIONS | lenience})


def _content_schema(content: GrammarSpec) -> str:
    is_any = content.kind is GrammarKind.JSON_OBJECT
    schema: dict[str, Any] = {"type": "object"} if is_any else json.loads(content.text)
    return json.dumps(schema | {"x-guidance": JSON_OPTIONS})
