"""Exposure settings as cameras spell them: parsing, comparing in stops, and formatting f-numbers and shutter times.

libgphoto2 passes on the driver's own spelling: `f/1.8` or `1.8`, `1/60`, `10/600`, `0.0166s` or `2"`. So a value is
compared as a number, never as text.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NUMBER = r"(\d+(?:[.,]\d+)?|[.,]\d+)"
_F_NUMBER = re.compile(rf"^\s*(?:f\s*/?\s*)?{_NUMBER}\s*$", re.IGNORECASE)
_SHUTTER = re.compile(rf"^\s*{_NUMBER}(?:\s*/\s*{_NUMBER})?\s*(?:s|sec|\")?\s*$", re.IGNORECASE)
_FRACTIONS_BELOW_S = 0.3
_WHOLE_DENOMINATOR_FROM = 1000


def parse_f_number(text: str) -> float | None:
    """The f-number of a setting; None if the text is none.

    >>> parse_f_number("f/1.8"), parse_f_number("F2,8"), parse_f_number("implicit auto")
    (1.8, 2.8, None)
    """
    match = _F_NUMBER.match(text)
    value = _to_float(match[1]) if match else 0.0
    return value if value > 0 else None


def parse_shutter_s(text: str) -> float | None:
    """The shutter time of a setting in seconds; None if the text is none.

    >>> parse_shutter_s("1/50"), parse_shutter_s("10/600 s"), parse_shutter_s('2"')
    (0.02, 0.016666666666666666, 2.0)
    >>> parse_shutter_s("bulb") is None
    True
    """
    match = _SHUTTER.match(text)
    if not match:
        return None
    denominator = _to_float(match[2]) if match[2] else 1.0
    value = _to_float(match[1]) / denominator if denominator > 0 else 0.0
    return value if value > 0 else None


def parse_number(text: str) -> float | None:
    """A plain number such as an ISO value; None if the text is none."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def format_shutter(shutter_s: float) -> str:
    """A shutter time in the notation of photographers.

    >>> format_shutter(1 / 60), format_shutter(0.5), format_shutter(4)
    ('1/60', '0.5', '4')
    """
    if shutter_s >= _FRACTIONS_BELOW_S:
        return f"{shutter_s:.4g}"
    denominator = 1 / shutter_s
    return f"1/{denominator:.0f}" if denominator >= _WHOLE_DENOMINATOR_FROM else f"1/{denominator:.4g}"


def equal_exposure_s(shutter_s: float, f_number: float, other_f_number: float) -> float:
    """The time that gives at `other_f_number` the exposure of `shutter_s` at `f_number`: t' = t (N'/N)².

    >>> equal_exposure_s(0.01, 4.0, 16.0)
    0.16
    """
    return shutter_s * (other_f_number / f_number) ** 2


def shutter_difference_ev(shutter_s: float, other_s: float) -> float:
    """By how many stops `shutter_s` is longer than `other_s`."""
    return math.log2(shutter_s / other_s)


def nearest_choice(
    value: float, choices: Iterable[str], parse: Callable[[str], float | None]
) -> tuple[str, float] | None:  # fmt: skip
    """The choice whose number is nearest to `value` in ratio, and its number; None if no choice is a number."""
    numbers = [(text, number) for text in choices if (number := parse(text)) is not None and number > 0]
    return min(numbers, key=lambda choice: abs(math.log2(choice[1] / value)), default=None)


def _to_float(text: str) -> float:
    return float(text.replace(",", "."))
