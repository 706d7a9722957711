"""Distortion and vignetting of the lensfun database."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import lensfunpy
import numpy as np
import pytest

from sdd_toolkit.calibration import lensfun_profile
from sdd_toolkit.calibration.lensfun_profile import (
    LensModel,
    check_known,
    distortion_map,
    find_profile,
    halve_map,
    vignetting_gain,
)
from sdd_toolkit.errors import InputError, MissingExtraError
from sdd_toolkit.records import Exposure, FrameMeta
from tests.support.planted_pairs import record

SIZE = (400, 600)
WIDE = Exposure(iso=100, shutter_s=0.01, f_number=4.0, focal_mm=24.0, focus_m=10.0)
META = FrameMeta("Canon", "Canon EOS 5D Mark IV", "EF24-105mm f/4L IS USM", size=SIZE, exposure=WIDE)


def known(meta: FrameMeta = META) -> LensModel:
    found = find_profile(meta)
    assert isinstance(found, LensModel)
    return found


def test_a_lens_of_the_database_is_found_by_what_the_file_says() -> None:
    assert known().name == "Canon Canon EF 24-105mm f/4L IS USM"
    assert known().focal_mm == 24.0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"make": None}, "names no camera"),
        ({"lens": None}, "names no camera and lens"),
        ({"model": "Pinhole 3000"}, "camera is not in the database"),
        ({"lens": "Jam jar 50mm"}, "lens is not in the database"),
        ({"exposure": Exposure()}, "no focal length"),
    ],
)
def test_an_unknown_lens_comes_with_the_reason(fields: dict[str, object], why: str) -> None:
    assert why in str(find_profile(replace(META, **fields)))


def test_what_is_not_known_is_listed_once_a_lens() -> None:
    pairs = [replace(record(name), sharp_meta=replace(META, lens="Jam jar 50mm")) for name in ("a", "b")]
    check_known([replace(pairs[0], sharp_meta=META)])
    with pytest.raises(
        InputError, match=r"Jam jar 50mm: the lens is not in the database for this camera \(a\) \("
    ) as it:
        check_known(pairs)
    assert "lensfun-if-known" in it.value.hint


def test_the_centre_stays_and_a_barrel_corner_lies_further_in() -> None:
    places = distortion_map(known(), SIZE)
    assert places.shape == (*SIZE, 2)
    middle = places[199:201, 299:301].mean(axis=(0, 1))
    np.testing.assert_allclose(middle, (299.5, 199.5), atol=0.01)
    assert places[0, 0].min() > 4


def test_a_portrait_frame_is_corrected_like_a_landscape_one() -> None:
    wide, tall = distortion_map(known(), SIZE), distortion_map(known(), SIZE[::-1])
    np.testing.assert_allclose(tall.swapaxes(0, 1)[..., ::-1], wide, atol=0.02)


def test_places_are_lensfuns_own_without_its_rounding() -> None:
    camera, lens = lensfunpy.Database().find_cameras(META.make, META.model)[0], META.lens
    modifier = lensfunpy.Modifier(lensfunpy.Database().find_lenses(camera, None, lens)[0], 1.0, SIZE[1], SIZE[0])
    modifier.initialize(24.0, 8.0, 1000.0, flags=lensfunpy.ModifyFlags.DISTORTION)
    gap = distortion_map(known(), SIZE) - modifier.apply_geometry_distortion()
    assert np.abs(gap).max() < 0.2
    assert np.abs(gap.mean(axis=(0, 1))).max() < 0.03
    assert np.abs(np.diff(distortion_map(known(), SIZE), n=2, axis=1)).max() < 0.001


def test_half_size_places_are_those_of_full_size() -> None:
    full, half = distortion_map(known(), SIZE), halve_map(distortion_map(known(), SIZE))
    # The half-size pixel 70 lies at 140.5.
    np.testing.assert_allclose(2 * half[70, 50] + 0.5, full[140:142, 100:102].mean(axis=(0, 1)), atol=1e-3)
    np.testing.assert_allclose(half[99:101, 149:151].mean(axis=(0, 1)), (149.5, 99.5), atol=0.01)


def test_vignetting_is_none_in_the_centre_and_stronger_at_a_wider_opening() -> None:
    open_, closed = (vignetting_gain(known(), replace(WIDE, f_number=number), SIZE) for number in (4.0, 11.0))
    assert open_ is not None
    assert closed is not None
    assert open_[200, 300] == pytest.approx(1.0, abs=1e-3)
    assert open_[0, 0] > closed[0, 0] > 1.05


@pytest.mark.parametrize("focus_m", [None, math.inf])
def test_a_focus_that_is_not_known_counts_as_far(focus_m: float | None) -> None:
    far = vignetting_gain(known(), replace(WIDE, focus_m=1000.0), SIZE)
    found = vignetting_gain(known(), replace(WIDE, focus_m=focus_m), SIZE)
    assert far is not None
    np.testing.assert_array_equal(found, far)


def test_without_an_opening_there_is_no_vignetting_to_take_out() -> None:
    assert vignetting_gain(known(), replace(WIDE, f_number=None), SIZE) is None


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lensfunpy", None)
    lensfun_profile.database.cache_clear()
    with pytest.raises(MissingExtraError, match=r"sdd-toolkit\[lens\]"):
        find_profile(META)
