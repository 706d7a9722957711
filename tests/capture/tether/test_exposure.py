from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.tether.exposure import (
    equal_exposure_s,
    format_shutter,
    nearest_choice,
    parse_f_number,
    parse_number,
    parse_shutter_s,
    shutter_difference_ev,
)


@pytest.mark.parametrize(
    ("text", "f_number"), [("f/1.8", 1.8), ("1.8", 1.8), ("F2,8", 2.8), ("f16", 16.0), ("Auto", None), ("0", None)]
)
def test_f_numbers_are_read_as_cameras_spell_them(text: str, f_number: float | None) -> None:
    assert parse_f_number(text) == f_number


@pytest.mark.parametrize(
    ("text", "shutter_s"),
    [
        ("1/60", 1 / 60),
        ("10/600", 1 / 60),
        ("0.0166s", 0.0166),
        ('2"', 2.0),
        ("30", 30.0),
        ("1/0", None),
        ("bulb", None),
    ],
)
def test_shutter_times_are_read_as_cameras_spell_them(text: str, shutter_s: float | None) -> None:
    assert parse_shutter_s(text) == shutter_s


@pytest.mark.parametrize(("text", "number"), [("100", 100.0), (" 0,5 ", 0.5), ("Auto", None), ("nan", None)])
def test_a_plain_number_is_read_and_a_word_is_none(text: str, number: float | None) -> None:
    assert parse_number(text) == number


@given(st.floats(1e-4, 60))
def test_a_shutter_time_written_and_read_is_the_same_within_a_thousandth(shutter_s: float) -> None:
    assert parse_shutter_s(format_shutter(shutter_s)) == pytest.approx(shutter_s, rel=1e-3)


@given(st.floats(1e-4, 10), st.floats(0.7, 64), st.floats(0.7, 64))
def test_equal_exposure_loses_in_time_what_the_opening_gains(shutter_s: float, f_number: float, other: float) -> None:
    other_s = equal_exposure_s(shutter_s, f_number, other)
    opening_ev = 2 * math.log2(other / f_number)
    assert shutter_difference_ev(shutter_s, other_s) + opening_ev == pytest.approx(0, abs=1e-9)


def test_the_nearest_speed_is_nearest_in_stops() -> None:
    found = nearest_choice(0.3265, ["bulb", "1.0000s", "0.1000s", "1/30"], parse_shutter_s)
    assert found == ("1.0000s", 1.0)
    assert abs(math.log2(1.0 / 0.3265)) < abs(math.log2(0.1 / 0.3265))


def test_choices_without_numbers_have_no_nearest() -> None:
    assert nearest_choice(0.5, ["bulb", "Auto"], parse_shutter_s) is None
