from __future__ import annotations

import pytest

from sdd_toolkit.records import Exposure
from sdd_toolkit.report.quantities import exposure_text, format_number


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.567, 1, "1,234.6"),
        (-0.5, 2, "−0.50"),
        (-0.001, 2, "0.00"),
        (float("nan"), 2, "–"),
        (None, 2, "–"),
        (1e300, 2, "1e+300"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, digits: int, text: str) -> None:
    assert format_number(value, digits) == text


@pytest.mark.parametrize(
    ("exposure", "text"),
    [
        (Exposure(100, 1 / 60, 2.8, 50.0, 1.2), "f/2.8 · 1/60 s · ISO 100 · 50 mm · focus 1.2 m"),
        (Exposure(shutter_s=1.3), "1.3 s"),
        (Exposure(iso=0, f_number=0.0), ""),
        (Exposure(), ""),
    ],
)
def test_an_exposure_is_formatted_as_far_as_it_is_known(exposure: Exposure, text: str) -> None:
    assert exposure_text(exposure) == text
