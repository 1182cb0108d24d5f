"""Explains what is wrong with a body in words that help: which field, and what to do.

`BodyExplainer` wraps the validation of `request_models.py`: it catches the mistakes that a schema
words badly (no JSON object, a strategy that is not there, a field of another strategy), says what
to do where a schema does not, and joins what the branches of a union say. It never repeats more of
the input than a name.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from decoding.params import Remedy

MAX_FIELDS = 100  # more than any strategy has; a body with more is not worth checking one by one
MAX_SHOWN_CHARACTERS = 80
REWORDED: Mapping[str, str] = {
    "missing": "This field is required; add it",
    "extra_forbidden": "There is no such field here; leave it out",
    "model_type": "Input should be a JSON object",
    "model_attributes_type": "Input should be a JSON object",
    "string_unicode": "Holds half of a surrogate pair, which is no character; send both or none",
}
REMEDIED = frozenset({"greater_than", "greater_than_equal", "literal_error"})
ELSEWHERE: Mapping[str, str] = {  # what other services call fields that are far from ours in name
    "n": "Did you mean num_return_sequences, of strategy beam or sample?",
    "best_of": "Did you mean num_beams, of strategy beam?",
    "prompt": "Did you mean text?",
    "inputs": "Did you mean text?",
    "do_sample": "Leave it out; choose a strategy instead.",
    "stream": "Leave it out; POST /generate/stream streams.",
}

Location = tuple[int | str, ...]


def tag_of(name: object) -> str:
    """How error locations call the union branch of a strategy; `BodyExplainer` drops it."""
    return f"<{name}>"


class BodyExplainer:
    """Validates a body and words its mistakes. Holds no state but which field is whose."""

    def __init__(
        self,
        models: Mapping[str, type[BaseModel]],
        default_strategy: str,
        elsewhere: Mapping[str, str] = ELSEWHERE,
    ) -> None:
        self._models = models
        self._elsewhere = elsewhere
        self._default_strategy = default_strategy
        shared = set.intersection(*(set(model.model_fields) for model in models.values()))
        self._owners: dict[str, list[str]] = {}  # strategies by the field that only they have
        for strategy, model in models.items():
            for field in model.model_fields:
                if field not in shared:
                    self._owners.setdefault(field, []).append(strategy)

    def __call__(self, body: object, validate: ValidatorFunctionWrapHandler) -> object:
        """What `validate` makes of the body.

        Raises:
            ValidationError: with locations that are field names, and no tags of union branches.
        """
        strategy = self._strategy_of(body)
        try:
            return validate(body)
        except ValidationError as error:
            mistakes = error.errors(include_url=False, include_input=False)
            raise failure(self._explain(mistakes, strategy)) from error

    def _strategy_of(self, body: object) -> str:
        """The strategy that the body names; refuses a body for which nothing else can be said."""
        if isinstance(body, bytes):
            raise PydanticCustomError(
                "unsupported_media_type",
                "Send the body as JSON, with the header Content-Type: application/json.",
            )
        if not isinstance(body, dict):
            raise PydanticCustomError("not_an_object", "The body must be a JSON object.")
        if len(body) > MAX_FIELDS:
            raise PydanticCustomError(
                "too_many_fields",
                "The body has far too many fields; send only those that its strategy has.",
            )
        strategy = body.get("strategy", self._default_strategy)
        if not isinstance(strategy, str) or strategy not in self._models:
            raise failure({("strategy",): ("unknown_strategy", self._unknown_strategy(strategy))})
        return strategy

    def _unknown_strategy(self, given: object) -> str:
        names = ", ".join(sorted(self._models))
        hint = _hint(_cut(str(given)), self._models)
        if given is None:
            return f"null is no strategy; leave the field out, or name one of: {names}."
        return f"There is no strategy {_shown(given)}; there are: {names}.{hint}"

    def _explain(
        self, mistakes: Sequence[ErrorDetails], strategy: str
    ) -> dict[Location, tuple[str, str]]:
        """Code and message by location; several messages about one place become one."""
        explained: dict[Location, tuple[str, str]] = {}
        for mistake in mistakes:
            location, code, message = self._explain_one(mistake, strategy)
            if location in explained:
                code, earlier = explained[location]
                message = f"{earlier}, or: {message}"
            explained[location] = (code, message)
        return explained

    def _explain_one(self, mistake: ErrorDetails, strategy: str) -> tuple[Location, str, str]:
        location = tuple(part for part in mistake["loc"] if not str(part).startswith("<"))
        field = str(mistake.get("ctx", {}).get("field", location[0] if location else ""))
        if mistake["type"] == "extra_forbidden" and len(location) == 1:
            return location, "unknown_field", self._unknown_field(field, strategy)
        if not location and field:
            location = (field,)
        if field in self._owners:  # below a strategy's field there are only branches of its type
            location = (field, *(part for part in location[1:2] if isinstance(part, int)))
        return location, mistake["type"], self._with_remedy(mistake, field, strategy)

    def _with_remedy(self, mistake: ErrorDetails, field: str, strategy: str) -> str:
        message = REWORDED.get(mistake["type"], mistake["msg"])
        info = self._models[strategy].model_fields.get(field)
        if info is None or mistake["type"] not in REMEDIED:
            return message
        remedies = [entry.text for entry in info.metadata if isinstance(entry, Remedy)]
        return ". ".join([message, *remedies])

    def _unknown_field(self, field: str, strategy: str) -> str:
        owners = self._owners.get(field)
        if owners:
            remedy = f"leave it out, or use one that has it: {', '.join(owners)}."
            return f"Strategy {strategy} has no {field}; {remedy}"
        names = [*self._models[strategy].model_fields, *self._owners]
        hint = self._elsewhere.get(field) or _hint(_cut(field), names).strip() or "Leave it out."
        return f"There is no field {_shown(field)}. {hint}"


def _hint(given: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(names), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _shown(given: object) -> str:
    return _cut(repr(given))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 3] + "..."


def failure(explained: Mapping[Location, tuple[str, str]]) -> ValidationError:
    """The error that says of each location its code and message."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(code, "{message}", {"message": message}),
            loc=location,
            input=None,
        )
        for location, (code, message) in explained.items()
    ]
    return ValidationError.from_exception_data("body", details)
