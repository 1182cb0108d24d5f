"""What an operator allows a request, within what the model and the engine could do.

`model_fit.py` and `answers.py` check it; each refusal names the field and the limit. What a
model or a step cannot hold is refused whether or not there is a limit here.
"""

from dataclasses import dataclass

from app.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Bounds of one request; None: those of the model and the engine."""

    max_prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    max_sequences: int | None = None  # beams or samples at once
    max_texts: int | None = None  # in one request
    max_stops: int | None = None

    def check_prompt(self, num_tokens: int, *, param: str) -> None:
        """Refuse a prompt that is too long."""
        _check(self.max_prompt_tokens, num_tokens, "prompt tokens", param, "prompt_too_long")

    def check_new_tokens(self, num_tokens: int, *, param: str) -> None:
        """Refuse to write so much."""
        _check(self.max_new_tokens, num_tokens, "new tokens", param, "too_many_tokens")

    def check_sequences(self, num_sequences: int, *, param: str | None) -> None:
        """Refuse so many beams or samples."""
        _check(self.max_sequences, num_sequences, "sequences at once", param, "too_many_sequences")

    def check_texts(self, num_texts: int, *, param: str) -> None:
        """Refuse a list that is too long."""
        _check(self.max_texts, num_texts, "texts", param, "too_many_texts")

    def check_stops(self, num_stops: int) -> None:
        """Refuse so many stop strings."""
        _check(self.max_stops, num_stops, "stop strings", "stop", "too_many_stops")


def _check(limit: int | None, given: int, what: str, param: str | None, code: str) -> None:
    if limit is not None and given > limit:
        raise InvalidRequest(
            f"{given} {what} are more than this server allows, which is {limit}; ask for fewer.",
            param=param,
            code=code,
        )
