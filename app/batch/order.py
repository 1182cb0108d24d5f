"""The order for a run: what to answer, how, and where to. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings

STANDARD = Path("-")  # as a file: standard input or output


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one run is to do."""

    input_file: Path
    output_file: Path
    is_text: bool  # lines are prompts, not JSON
    resumes: bool  # goes on behind what the output holds
    defaults: Mapping[str, object]  # fields for lines that leave them open
    seed: int  # of draws that bring none
    max_in_flight: int  # requests under way at a time
    settings: Settings
