"""A request of TGI's API as the inside of the service knows it: parsed, bounded, frozen.

`parameters.py` makes it; `answers.py` has it answered.
"""

from dataclasses import dataclass, replace

from app.errors import InvalidRequest
from app.text.request import TextRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TgiCall:
    """What text is wanted, and how it is told."""

    request: TextRequest
    has_details: bool
    return_full_text: bool | None  # None: as the path does

    @property
    def has_prefill(self) -> bool:
        """Whether the prompt's tokens are told."""
        return self.request.prompt_logprobs is not None

    def with_full_text(self, *, by_default: bool) -> "TgiCall":
        """The same, on a path where generated_text begins with the prompt `by_default`."""
        full = by_default if self.return_full_text is None else self.return_full_text
        return replace(self, request=replace(self.request, return_full_text=full))

    def check_stream(self) -> None:
        """Refuse what an event stream of TGI's has no place for.

        Raises:
            InvalidRequest: naming the parameter.
        """
        if self.has_prefill:
            raise InvalidRequest(
                "A stream does not tell the prompt's tokens; ask for them without stream.",
                param="decoder_input_details",
            )
        if self.request.strategy.num_results > 1:
            raise InvalidRequest(
                "A stream tells one text; ask for one, or for all of them without stream.",
                param="num_return_sequences",
            )
