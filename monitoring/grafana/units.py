"""Numbers written as Grafana writes them in the units of our panels. `picture.py` asks."""

from collections.abc import Callable, Mapping

SUFFIX = "suffix:"  # Grafana's mark of a unit that is simply written behind the number
STEPS_OF_TIME = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
STEPS_OF_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
STEPS_OF_NUMBERS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def write_number(value: float, unit: str) -> str:
    """A value with its unit.

    Raises:
        LookupError: no panel has had this unit so far.
    """
    if unit.startswith(SUFFIX):
        return f"{_scaled(value, STEPS_OF_NUMBERS)} {unit.removeprefix(SUFFIX).strip()}"
    return WRITERS[unit](value)


def size_of_unit(value: float, unit: str) -> float:
    """By what a number of this size is divided when it is written, for round marks on an axis."""
    steps = {"s": STEPS_OF_TIME, "bytes": STEPS_OF_BYTES}.get(unit, STEPS_OF_NUMBERS)
    return _step(value, steps)[0]


def _step(value: float, steps: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next((step for step in steps if abs(value) >= step[0]), steps[-1])


def _scaled(value: float, steps: tuple[tuple[float, str], ...], gap: str = "") -> str:
    size, name = _step(value, steps)
    return f"{_short(value / size)}{gap if name else ''}{name}" if value else "0"


def _short(value: float) -> str:
    """Three digits, or all of a larger number's whole ones."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


WRITERS: Mapping[str, Callable[[float], str]] = {
    "none": lambda value: _scaled(value, STEPS_OF_NUMBERS),
    "s": lambda value: _scaled(value, STEPS_OF_TIME, gap=" "),
    "bytes": lambda value: _scaled(value, STEPS_OF_BYTES, gap=" "),
    "percentunit": lambda value: f"{_short(100 * value)}%",
    "reqps": lambda value: f"{_scaled(value, STEPS_OF_NUMBERS)} req/s",
    "ops": lambda value: f"{_scaled(value, STEPS_OF_NUMBERS)} ops/s",
}
