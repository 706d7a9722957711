"""The pyramid of a pair."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.estimation.pyramid import FramePair, build_pyramid, first_level_fitting, first_level_within, halve


def frames(size: tuple[int, int]) -> FramePair:
    return FramePair(*np.random.default_rng(0).uniform(0, 1, (4, *size)).astype(np.float32))


def test_halving_takes_means_of_two_by_two_and_cuts_what_is_odd() -> None:
    image = np.arange(15, dtype=np.float32).reshape(3, 5)
    np.testing.assert_array_equal(halve(image), [[3, 5]])
    assert halve(image).dtype == np.float32


def test_every_image_of_a_pair_is_halved() -> None:
    pair = frames((10, 12))
    half = pair.halve()
    assert half.size == (5, 6)
    for name in ("blur", "sharp", "trusted_blur", "trusted_sharp"):
        np.testing.assert_array_equal(getattr(half, name), halve(getattr(pair, name)))


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((320, 433), [(320, 433), (160, 216), (80, 108)]),
        ((143, 900), [(143, 900)]),
        ((144, 900), [(144, 900), (72, 450)]),
        ((30, 30), [(30, 30)]),
    ],
)
def test_levels_end_where_the_next_would_be_too_small(size: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    assert [level.size for level in build_pyramid(frames(size))] == sizes


@pytest.mark.parametrize(("megapixels", "number"), [(1.0, 0), (0.0625, 0), (0.0624, 1), (0.015625, 1), (0.001, 1)])
def test_the_first_level_within_a_number_of_pixels_is_taken_or_the_last(megapixels: float, number: int) -> None:
    levels = build_pyramid(frames((250, 250)))
    assert [level.size for level in levels] == [(250, 250), (125, 125)]
    assert first_level_within(levels, megapixels) == number


def test_the_first_level_that_fits_has_no_longer_side() -> None:
    levels = build_pyramid(frames((300, 640)))
    assert [first_level_fitting(levels, side) for side in (640, 639, 320, 10)] == [0, 1, 1, len(levels) - 1]
