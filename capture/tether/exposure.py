"""Exposure settings as cameras spell them: f-numbers and shutter times read, compared in stops and written.

libgphoto2 hands on whatever a driver calls a value: `f/1.8` or `1.8`, `1/60`, `10/600`, `0.0166s` or `2"`. A value is
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
    """The f-number of `f/1.8`, `F2,8` or `16`; None if the text tells none (`Auto`, `implicit auto`)."""
    found = _F_NUMBER.match(text)
    value = _to_float(found[1]) if found else 0.0
    return value if value > 0 else None


def parse_shutter_s(text: str) -> float | None:
    """The seconds of `1/60`, `10/600`, `0.0166s` or `2"`; None if the text tells none (`bulb`, `Auto`)."""
    found = _SHUTTER.match(text)
    if not found:
        return None
    below = _to_float(found[2]) if found[2] else 1.0
    value = _to_float(found[1]) / below if below > 0 else 0.0
    return value if value > 0 else None


def parse_number(text: str) -> float | None:
    """A plain number such as an ISO value; None if the text is none."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def format_shutter(shutter_s: float) -> str:
    """Seconds as people write them: `1/60`, `0.5`, `4`."""
    if shutter_s >= _FRACTIONS_BELOW_S:
        return f"{shutter_s:.4g}"
    below = 1 / shutter_s
    return f"1/{below:.0f}" if below >= _WHOLE_DENOMINATOR_FROM else f"1/{below:.4g}"


def equal_exposure_s(shutter_s: float, f_number: float, other_f_number: float) -> float:
    """The time that gives at `other_f_number` the light that `shutter_s` gives at `f_number`: t' = t (N'/N)²."""
    return shutter_s * (other_f_number / f_number) ** 2


def shutter_difference_ev(shutter_s: float, other_s: float) -> float:
    """By how many stops `shutter_s` is longer than `other_s`."""
    return math.log2(shutter_s / other_s)


def opening_apart_ev(f_number: float, other: float) -> float:
    """By how many stops `f_number` lets in more light than `other`."""
    return 2 * math.log2(other / f_number)


def nearest_choice(
    value: float, choices: Iterable[str], parse: Callable[[str], float | None]
) -> tuple[str, float] | None:  # fmt: skip
    """The choice whose number is nearest to `value` in ratio, and its number; None if no choice tells one."""
    told = [(text, number) for text in choices if (number := parse(text)) is not None and number > 0]
    return min(told, key=lambda pair: abs(math.log2(pair[1] / value)), default=None)


def _to_float(text: str) -> float:
    return float(text.replace(",", "."))
