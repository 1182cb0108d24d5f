"""How families of models write calls, and which family a chat template belongs to.

A format is a row of literal texts around names and arguments, so that one grammar builder and one
reader serve them all. The texts are what the families' own chat templates write for calls in a
conversation. A family whose calls are not a JSON object of arguments after a name is not here: its
models are held to the default, which is Hermes' form.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """The text of calls: opening, calls with separators between them, closing.

    A call is `before_name`, the name, `before_arguments`, a JSON object, `after_arguments`.
    """

    trigger: str  # the text begins calls where it holds this; "": where it begins with a brace
    opening: str = ""
    before_name: str
    before_arguments: str
    after_arguments: str
    separator: str | None  # between calls; None: there is only ever one
    closing: str = ""
    has_short_ids: bool = False  # the template takes ids of nine letters and digits only

    @property
    def first_head(self) -> str:
        """All that comes before the first call's name; begins with the trigger."""
        return self.opening + self.before_name

    def write(self, calls: list[tuple[str, str]]) -> str:
        """The text of calls, given as names and arguments."""
        written = (
            f"{self.before_name}{name}{self.before_arguments}{arguments}{self.after_arguments}"
            for name, arguments in calls
        )
        return f"{self.opening}{(self.separator or '').join(written)}{self.closing}"


HERMES = CallFormat(  # Hermes 2 and 3, Qwen 2.5 and 3, SmolLM3 and many more
    trigger="<tool_call>",
    before_name='<tool_call>\n{"name": "',
    before_arguments='", "arguments": ',
    after_arguments="}\n</tool_call>",
    separator="\n",
)
LLAMA_3 = CallFormat(
    trigger="",
    before_name='{"name": "',
    before_arguments='", "parameters": ',
    after_arguments="}",
    separator=None,
)
MISTRAL_LIST = CallFormat(  # up to Mistral Small 3.1
    trigger="[TOOL_CALLS]",
    opening="[TOOL_CALLS] [",
    before_name='{"name": "',
    before_arguments='", "arguments": ',
    after_arguments="}",
    separator=", ",
    closing="]",
    has_short_ids=True,
)
MISTRAL_MARKED = CallFormat(  # later ones
    trigger="[TOOL_CALLS]",
    before_name="[TOOL_CALLS]",
    before_arguments="[ARGS]",
    after_arguments="",
    separator="",
    has_short_ids=True,
)
GRANITE = CallFormat(
    trigger="<|tool_call|>",
    opening="<|tool_call|>[",
    before_name='{"name": "',
    before_arguments='", "arguments": ',
    after_arguments="}",
    separator=", ",
    closing="]",
)
DEEPSEEK_FENCED = CallFormat(  # V3, R1 and what was distilled from it
    trigger="<｜tool▁calls▁begin｜>",  # noqa: RUF001  (full-width bars are what it writes)
    opening="<｜tool▁calls▁begin｜>",  # noqa: RUF001
    before_name="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",  # noqa: RUF001
    before_arguments="\n```json\n",
    after_arguments="\n```<｜tool▁call▁end｜>",  # noqa: RUF001
    separator="\n",
    closing="<｜tool▁calls▁end｜>",  # noqa: RUF001
)
DEEPSEEK = CallFormat(  # V3.1
    trigger="<｜tool▁calls▁begin｜>",  # noqa: RUF001
    opening="<｜tool▁calls▁begin｜>",  # noqa: RUF001
    before_name="<｜tool▁call▁begin｜>",  # noqa: RUF001
    before_arguments="<｜tool▁sep｜>",  # noqa: RUF001
    after_arguments="<｜tool▁call▁end｜>",  # noqa: RUF001
    separator="",
    closing="<｜tool▁calls▁end｜>",  # noqa: RUF001
)
_SIGNS: tuple[tuple[tuple[str, ...], CallFormat], ...] = (  # what a family's templates hold
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_MARKED),
    (("[TOOL_CALLS]",), MISTRAL_LIST),
    (("<｜tool▁calls▁begin｜>", "```json"), DEEPSEEK_FENCED),  # noqa: RUF001
    (("<｜tool▁calls▁begin｜>",), DEEPSEEK),  # noqa: RUF001
    (("<tool_call>",), HERMES),
    (("<|tool_call|>", "<|start_of_role|>"), GRANITE),
    (("<|start_header_id|>", '"parameters": '), LLAMA_3),
)


def format_of(template: str) -> CallFormat:
    """The format that a model with this chat template writes."""
    found = (form for signs, form in _SIGNS if all(sign in template for sign in signs))
    return next(found, HERMES)
