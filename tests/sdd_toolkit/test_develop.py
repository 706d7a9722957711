from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.develop import Encoding, binned, decode, encode, preview, srgb_decode, srgb_encode
from sdd_toolkit.frames import HalfFrame

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def half_of(colour: tuple[float, float, float], balance: tuple[float, float, float]) -> HalfFrame:
    rgb = np.full((3, 4, 3), colour, dtype=np.float32)
    return HalfFrame(rgb, np.zeros((3, 4), dtype=bool), (6, 8), balance, IDENTITY)


@pytest.mark.parametrize("encoding", Encoding)
def test_every_code_decodes_and_encodes_to_itself(encoding: Encoding) -> None:
    dtype = np.uint8 if encoding is Encoding.SRGB8 else np.uint16
    codes = np.arange(encoding.white + 1).astype(dtype)
    again = encode(decode(codes, encoding), encoding)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, codes)


def test_the_srgb_curve_has_the_values_of_its_standard() -> None:
    linear = np.array([0.0, 0.0031308, 0.18, 0.5, 1.0], dtype=np.float32)
    np.testing.assert_allclose(srgb_encode(linear), [0.0, 0.040450, 0.461356, 0.735357, 1.0], atol=1e-5)


@given(st.floats(0, 1, width=32))
def test_the_srgb_curve_is_undone_by_its_inverse(value: float) -> None:
    there = srgb_encode(np.array([value], dtype=np.float32))
    assert srgb_decode(there)[0] == pytest.approx(value, abs=2e-6)


def test_light_outside_black_and_white_is_clipped() -> None:
    light = np.array([-0.5, 1.5], dtype=np.float32)
    assert encode(light, Encoding.LINEAR16).tolist() == [0, 65535]
    assert encode(light, Encoding.SRGB8).tolist() == [0, 255]


def test_binning_takes_means_of_blocks_and_leaves_out_an_odd_edge() -> None:
    image = np.array([[1, 2, 9], [3, 6, 9], [9, 9, 9]], dtype=np.float32)
    assert binned(image).tolist() == [[3.0]]


def test_a_grey_patch_is_grey_after_white_balance_and_its_level_is_that_of_the_weakest_gain() -> None:
    # 0.4 green under a gain of 1 must show as 0.4, whatever the other gains are.
    shown = preview(half_of((0.2, 0.4, 0.25), (2.0, 1.0, 1.6)))
    assert shown[1, 1].tolist() == [170, 170, 170]
    assert encode(np.float32([0.4]), Encoding.SRGB8).tolist() == [170]


def test_a_saturated_pixel_is_white_not_magenta() -> None:
    shown = preview(half_of((1.0, 1.0, 1.0), (2.0, 1.0, 0.5)))
    assert shown[0, 0].tolist() == [255, 255, 255]
