"""The bodies of `POST /watermark/detect`."""

from pydantic import Field

from app.bodies.adjustment_fields import WatermarkBody
from app.bodies.generation_fields import Text
from app.bodies.response_model import ResponseModel
from app.bodies.strict_model import StrictModel


class DetectRequest(StrictModel):
    """A text, without the prompt that led to it, and the watermark to look for."""

    text: Text = Field(description="The text, without the prompt that led to it.")
    watermark: WatermarkBody = Field(
        default=WatermarkBody(), description="As it was when the text was made; `bias` is not used."
    )


class DetectResponse(ResponseModel):
    """What was found."""

    is_watermarked: bool = Field(description="Whether z_score is above 3.")
    num_tokens_scored: int
    num_green_tokens: int
    z_score: float = Field(description="Standard deviations above what chance would give.")
    p_value: float = Field(description="How likely so many green tokens are by chance.")
