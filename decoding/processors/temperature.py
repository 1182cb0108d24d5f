"""Temperature: divide the scores. As `transformers.TemperatureLogitsWarper`."""

from torch import Tensor


def apply_temperature(scores: Tensor, temperature: Tensor) -> Tensor:
    """Scale `scores` [rows, vocab] by 1 / `temperature` [rows]."""
    return scores / temperature[:, None]
