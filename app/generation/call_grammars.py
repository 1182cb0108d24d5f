"""What a request's text is held to: its own grammar, the grammar of its tools, or both.

`preparation.py` asks on a text thread. Refusals name the field that is to be changed.
"""

from dataclasses import replace

from app.errors import InvalidRequest
from app.text.codec import TextCodec
from app.text.grammar.compiler import GrammarCompiler
from app.text.grammar.spec import GrammarKind, GrammarSpec
from app.text.request import TextRequest
from app.text.tools.grammar import CallGrammar
from app.text.tools.spec import ToolUse
from decoding.constraint import TokenConstraint

JSON_KINDS = frozenset({GrammarKind.JSON, GrammarKind.JSON_OBJECT})


class CallGrammars:
    """Writes and compiles grammars for one model. Any thread may use it."""

    def __init__(self, codec: TextCodec, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._form = codec.call_format
        special_ids = compiler.special_ids
        written = self._form.write([("", "")])
        self.shown_ids = frozenset(  # tokens that calls are written with and that no text shows
            token_id
            for text, token_id in special_ids.items()
            if text in written and codec.is_silent(token_id)
        )
        self._calls = CallGrammar(
            form=self._form,
            special_ids=special_ids,
            sayable_ids=[
                token_id
                for text, token_id in special_ids.items()
                if text not in written and not codec.is_silent(token_id)
            ],
        )

    def grammar_of(self, request: TextRequest) -> GrammarSpec | None:
        """The grammar of a request's text, if it has one.

        Raises:
            InvalidRequest: its tools and its own grammar do not go together.
        """
        if request.tools is None:
            return request.grammar
        if request.grammar is not None:
            self._check_content(request.grammar, request.tools)
        return self._calls.build(request.tools, request.grammar)

    def constraint(
        self, request: TextRequest, grammar: GrammarSpec | None
    ) -> TokenConstraint | None:
        """The constraint that `grammar_of` the request becomes.

        Raises:
            InvalidRequest: it is no grammar, or a too large one; names the function if it is one's.
        """
        if grammar is None:
            return None
        try:
            return self._compiler.compile(grammar, num_rows=request.strategy.num_rows)
        except InvalidRequest as refusal:
            if request.tools is None:
                raise
            raise self._refusal(request.tools, refusal) from refusal

    def _check_content(self, content: GrammarSpec, tools: ToolUse) -> None:
        if tools.must_call:
            raise InvalidRequest(
                "A text that must be a call cannot be held to a form of its own as well; leave one "
                "of the two out.",
                param="tool_choice",
            )
        if content.kind not in JSON_KINDS or not self._form.trigger:
            what = "JSON" if content.kind in JSON_KINDS else f"a {content.kind}"
            raise InvalidRequest(
                f"A text that is held to {what} could not be told from a call of this model's; "
                "leave one of the two out.",
                param="tools",
                code="unsupported",
            )

    def _refusal(self, tools: ToolUse, refusal: InvalidRequest) -> InvalidRequest:
        """The same, of the first function that is refused alone too."""
        if refusal.code == "unsupported":
            return InvalidRequest(
                "This model's tokenizer cannot be held to a grammar, so that calls could be wrong; "
                "leave tools out, or set tool_choice to none.",
                param="tools",
                code=refusal.code,
            )
        for function in tools.callables:
            alone = replace(tools, functions=(function,), callable_names=frozenset({function.name}))
            try:
                self._compiler.compile(self._calls.build(alone), num_rows=1)
            except InvalidRequest as own:
                reason = str(own).replace("This grammar", f"The schema of {function.name}")
                return InvalidRequest(reason, param=function.field, code=own.code)
        return InvalidRequest(str(refusal), param="tools", code=refusal.code)
