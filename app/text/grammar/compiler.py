"""Makes grammars of what requests ask for, with llguidance, for the served tokenizer.

`preparation.py` calls `compile` on a text thread: it takes up to a tenth of a second, without
Python's lock. Time and size are bounded by counting the work, never by a clock, so that a grammar
is refused always or never. Compiled grammars are kept and shared.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from app.errors import InvalidRequest
from app.text.grammar.constraint import GrammarConstraint
from app.text.grammar.spec import GrammarKind, GrammarSpec

if TYPE_CHECKING:  # importing transformers takes seconds, and only its types are needed here
    from llguidance._lib import JsonCompileOptions
    from transformers import PreTrainedTokenizerBase

MAX_KEPT = 256  # compiled grammars
MAX_KEPT_CHARACTERS = 4_000_000  # of all their texts together
MAX_GRAMMAR_SIZE = 100_000  # symbols; a hundred of them compile in about a millisecond
INITIAL_FUEL = 500_000  # to build the lexer; about 10 ms
STEP_FUEL = 400_000  # of all rows of a request together in one step; about 30 ms
LEAST_STEP_FUEL, MOST_STEP_FUEL = 20_000, 200_000  # of one row
MAX_STEP_ITEMS = 20_000  # of one row in one step; about 1 ms
MAX_LEXER_STATES = 50_000  # of up to 2 kB each

# Room for line breaks and indents, but not for the endless blanks that small models fall into.
JSON_OPTIONS: "JsonCompileOptions" = {"whitespace_pattern": r"[ \n\r\t]{1,32}"}


class GrammarCompiler:
    """Compiles and keeps grammars; any thread may call it."""

    def __init__(
        self, tokenizer: LLTokenizer | None, special_ids: Mapping[str, int] | None = None
    ) -> None:
        self.special_ids = special_ids or {}  # of tokens that no text in a grammar stands for
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[GrammarSpec, int], LLMatcher] = OrderedDict()
        self._num_characters = 0

    @classmethod
    def build(
        cls,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int],
    ) -> "GrammarCompiler":
        """A compiler for a tokenizer; takes a fifth of a second, with Python's lock held.

        One for a tokenizer that llguidance cannot read, or for a model without an end token,
        refuses all grammars.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not tokenizer.is_fast or backend is None or not eos_token_ids:
            return cls(None)
        try:
            made = LLTokenizer(
                backend.to_str(), n_vocab=vocab_size, eos_token=sorted(eos_token_ids)
            )
        except ValueError:  # a model with fewer tokens than its tokenizer, or an unknown kind
            return cls(None)
        added = backend.get_added_tokens_decoder().items()
        return cls(made, {each.content: at for at, each in added if made.is_special_token(at)})

    def compile(self, spec: GrammarSpec, *, num_rows: int) -> GrammarConstraint:
        """A new constraint for a request of so many rows.

        Raises:
            InvalidRequest: it is no grammar, a too large one, or cannot be served for this model.
        """
        if self._tokenizer is None:
            raise InvalidRequest(
                "This model's tokenizer cannot be held to a grammar; leave this out.",
                param=spec.origin or "structured_outputs",
                code="unsupported",
            )
        fuel = max(LEAST_STEP_FUEL, min(MOST_STEP_FUEL, STEP_FUEL // num_rows))
        with self._lock:
            matcher = self._kept.get((spec, fuel))
            if matcher is not None:
                self._kept.move_to_end((spec, fuel))
        if matcher is None:
            matcher = _compile(self._tokenizer, spec, fuel)
            self._keep(spec, fuel, matcher)
        return GrammarConstraint(matcher.deep_copy(), num_rows=num_rows)

    def _keep(self, spec: GrammarSpec, fuel: int, matcher: LLMatcher) -> None:
        with self._lock:
            if (spec, fuel) in self._kept:
                return
            self._kept[spec, fuel] = matcher
            self._num_characters += len(spec.text)
            while len(self._kept) > MAX_KEPT or self._num_characters > MAX_KEPT_CHARACTERS:
                (oldest, _), _ = self._kept.popitem(last=False)
                self._num_characters -= len(oldest.text)


def _compile(tokenizer: LLTokenizer, spec: GrammarSpec, step_fuel: int) -> LLMatcher:
    limits = LLParserLimits(
        initial_lexer_fuel=INITIAL_FUEL,
        step_lexer_fuel=step_fuel,
        step_max_items=MAX_STEP_ITEMS,
        max_lexer_states=MAX_LEXER_STATES,
        max_grammar_size=MAX_GRAMMAR_SIZE,
        verbose_errors=False,
    )
    try:
        grammar = _grammar(spec)
    except (ValueError, RecursionError, GbnfToLarkError) as error:
        raise _refusal(spec, str(error)) from error
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
    trial = matcher.deep_copy()
    if not trial.is_error():  # what lets no text begin shows only here
        trial.compute_bitmask()
    if trial.is_error():
        raise _refusal(spec, trial.get_error())
    return matcher


def _grammar(spec: GrammarSpec) -> str:
    """The text as llguidance takes it."""
    match spec.kind:
        case GrammarKind.JSON:
            return LLMatcher.grammar_from_json_schema(spec.text, overrides=JSON_OPTIONS)
        case GrammarKind.JSON_OBJECT:
            return LLMatcher.grammar_from_json_schema('{"type": "object"}', overrides=JSON_OPTIONS)
        case GrammarKind.REGEX:
            return LLMatcher.grammar_from_regex(spec.text)
        case GrammarKind.CHOICE:
            choices = " | ".join(json.dumps(each) for each in json.loads(spec.text))
            return LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {choices}")
        case GrammarKind.GRAMMAR:
            return LLMatcher.grammar_from_lark(any_to_lark(spec.text))


def _refusal(spec: GrammarSpec, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"This {spec.kind} cannot be followed: {_gist(reason)}. Correct or simplify it.",
        param=spec.origin or f"structured_outputs.{spec.kind}",
        code="invalid_grammar",
    )


def _gist(reason: str) -> str:
    """The line of an error that says what is wrong; the others show where."""
    lines = reason.replace("<non-verbose/>", "").strip().splitlines() or ["it is not valid"]
    regex_errors = [line for line in lines if line.startswith("error: ")]
    return (regex_errors or lines)[0].removeprefix("error: ").rstrip(".: ")
