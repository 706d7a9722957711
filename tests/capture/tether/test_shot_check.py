from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from capture.tether.plan_config import CheckTable
from capture.tether.shot_check import check_frame, check_pair, exif_mismatches, find_problems, histogram_bar
from sdd_toolkit.imaging.frame import HalfFrame
from sdd_toolkit.records import Exposure


def frame(light: NDArray[np.floating]) -> HalfFrame:
    rgb = np.repeat(light.astype(np.float32)[..., None], 3, axis=2)
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return HalfFrame(rgb, light >= 1, (2 * light.shape[0], 2 * light.shape[1]), (1.0, 1.0, 1.0), identity)


def textured(level: float = 0.4) -> NDArray[np.floating]:
    blocks = np.random.default_rng(0).uniform(0.5, 1.5, (12, 12))
    return level * np.kron(blocks, np.ones((8, 8)))


def test_a_grey_frame_is_one_bar_of_its_histogram() -> None:
    numbers = check_frame(frame(np.full((48, 48), 0.3)))
    # 0.3 is -1.74 EV: the 13th of 16 half stops from -8 EV
    assert numbers.histogram == (*[0.0] * 12, 1.0, *[0.0] * 3)
    assert (numbers.clipped_fraction, numbers.black_fraction, numbers.level) == (0.0, 0.0, 0.3)
    assert histogram_bar(numbers) == " " * 12 + "█" + " " * 3


def test_a_quarter_of_saturated_pixels_is_counted_and_complained_of() -> None:
    light = np.full((48, 48), 0.3)
    light[:24, :24] = 1.0
    numbers = check_frame(frame(light))
    assert numbers.clipped_fraction == 0.25
    assert find_problems(numbers, None, CheckTable()) == ("over-exposed: 25.0% of the pixels are saturated",)


def test_a_dark_frame_is_complained_of() -> None:
    numbers = check_frame(frame(np.full((48, 48), 0.001)))
    assert numbers.black_fraction == 1.0
    assert find_problems(numbers, None, CheckTable())[0].startswith("under-exposed")


def test_a_pair_one_stop_apart_is_complained_of() -> None:
    pair = check_pair(frame(textured(0.2)), frame(textured(0.4)), "blur.dng")
    assert pair.exposure_ev == pytest.approx(1.0, abs=1e-4)
    words = find_problems(check_frame(frame(textured())), pair, CheckTable(min_sharpness_gain=0))
    assert words == ("the pair's exposures do not match: sharp is +1.0 EV off blurred",)


def test_a_sharp_frame_that_is_no_sharper_is_complained_of_and_a_sharper_one_passes() -> None:
    sharp, limits = textured(), CheckTable()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    numbers = check_frame(frame(sharp))
    assert find_problems(numbers, check_pair(frame(blurred), frame(sharp), "b"), limits) == ()
    assert find_problems(numbers, check_pair(frame(sharp), frame(sharp), "b"), limits)[0].endswith(
        "1.00 times the detail"
    )


def test_exif_contradicts_only_with_a_different_known_value() -> None:
    asked = Exposure(f_number=16, shutter_s=1 / 60, iso=100)
    assert exif_mismatches(asked, Exposure()) == ()
    assert exif_mismatches(asked, Exposure(f_number=16, shutter_s=1 / 64, iso=100)) == ()
    assert exif_mismatches(Exposure(), Exposure(f_number=2)) == ()
    assert exif_mismatches(asked, Exposure(f_number=2.8, iso=200)) == (
        "EXIF tells f-number 2.8, set was 16",
        "EXIF tells ISO 200, set was 100",
    )
