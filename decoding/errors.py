"""What decoding can refuse.

* DecodingError
  + InvalidParameter (ValueError): a strategy's parameter is out of range or contradicts another
  + InvalidStrategy: an installed plugin does not offer what a strategy must
"""


class DecodingError(Exception):
    """Base of everything decoding raises on purpose."""


class InvalidParameter(DecodingError, ValueError):
    """A parameter that the strategy cannot work with; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class InvalidStrategy(DecodingError):
    """A plugin's class does not satisfy `decoding.base.Strategy`, or its name is taken."""
