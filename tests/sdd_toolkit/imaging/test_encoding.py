"""Transfer curves, to the code and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.encoding import Encoding, decode, encode, encode_integers, srgb_decode, srgb_encode
from sdd_toolkit.imaging.frame import HalfFrame, preview
from sdd_toolkit.shards.index import ShardHeader, header_attributes

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


@pytest.mark.parametrize("encoding", Encoding)
def test_every_step_of_the_curve_is_a_step_up(encoding: Encoding) -> None:
    dtype = np.uint8 if encoding is Encoding.SRGB8 else np.uint16
    assert np.diff(decode(np.arange(encoding.white + 1).astype(dtype), encoding).astype(np.float64)).min() > 0


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.sampled_from(Encoding))
def test_light_comes_back_within_half_a_code(values: list[float], encoding: Encoding) -> None:
    light = np.array(values, dtype=np.float32)
    exact = encoding.transfer.encode(light)
    # In codes: half of one, and what single precision costs the 8-bit curve.
    slack = 1e-4 if encoding is Encoding.SRGB8 else 1e-9
    assert np.abs(encode(light, encoding) - exact).max() <= 0.5 + slack
    lowest, highest = (encoding.transfer.decode(np.clip(exact + side, 0, encoding.white)) for side in (-0.5, 0.5))
    back = decode(encode(light, encoding), encoding)
    assert np.all(back <= highest + 1e-6)
    assert np.all(back >= lowest - 1e-6)


@pytest.mark.parametrize("encoding", Encoding)
def test_every_sixteen_bit_step_of_linear_light_is_rounded_exactly(encoding: Encoding) -> None:
    steps = np.arange(65536).astype(np.uint16).reshape(64, 512, 2)
    exact = np.rint(encoding.transfer.encode(steps.astype(np.float64) / 65535))
    np.testing.assert_array_equal(encode_integers(steps, encoding), exact)
    assert encode_integers(steps[:0], encoding).shape == (0, 512, 2)


def test_eight_bit_codes_are_rounded_exactly_however_near_the_border_of_two() -> None:
    borders = Encoding.SRGB8.transfer.decode(np.arange(255) + 0.5)
    near = (borders[:, None] * (1 + np.linspace(-1e-4, 1e-4, 41))).astype(np.float32)
    light = np.concatenate([near.ravel(), np.random.default_rng(2).random(20000, dtype=np.float32) ** 3])
    np.testing.assert_array_equal(encode(light, Encoding.SRGB8), np.rint(Encoding.SRGB8.transfer.encode(light)))
    assert encode(np.float32([[-1.0, 2.0]]), Encoding.SRGB8).tolist() == [[0, 255]]


def test_the_curve_meets_itself_at_its_threshold() -> None:
    curve = Encoding.SRGB16.transfer
    below, above = curve.encode(np.float32([0.0031308, np.nextafter(np.float32(0.0031308), 1, dtype=np.float32)]))
    assert above - below == pytest.approx(0.0, abs=0.02)
    assert (curve.threshold, curve.slope, curve.a, curve.gamma) == (0.0031308, 12.92, 0.055, 2.4)
    # 0.04045 on the way back: no code of 16 bits lies between the two.
    between = np.arange(65536)[(np.arange(65536) / 65535 > 12.92 * 0.0031308) & (np.arange(65536) / 65535 <= 0.04045)]
    assert between.size == 0


@pytest.mark.parametrize("encoding", Encoding)
def test_codes_can_be_made_again_from_the_stored_numbers_alone(encoding: Encoding) -> None:
    told = json.loads(str(header_attributes(ShardHeader("train", encoding, 512))["transfer_parameters"]))
    light = np.random.default_rng(1).random(20000).astype(np.float32) ** 3
    v = light.astype(np.float64)
    power = (1 + told["a"]) * v ** (1 / told["gamma"]) - told["a"]
    s = np.where(v <= told["threshold"], told["slope"] * v, power)
    assert np.mean(np.rint(told["white"] * s) != encode(light, encoding)) < 1e-3
    assert np.abs(told["white"] * s - encode(light, encoding)).max() < 0.501


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
    assert bin_2x2(image).tolist() == [[3.0]]


def test_a_grey_patch_is_grey_after_white_balance_and_its_level_is_that_of_the_weakest_gain() -> None:
    # 0.4 green under a gain of 1 must show as 0.4, whatever the other gains are.
    shown = preview(half_of((0.2, 0.4, 0.25), (2.0, 1.0, 1.6)))
    assert shown[1, 1].tolist() == [170, 170, 170]
    assert encode(np.float32([0.4]), Encoding.SRGB8).tolist() == [170]


def test_a_saturated_pixel_is_white_not_magenta() -> None:
    shown = preview(half_of((1.0, 1.0, 1.0), (2.0, 1.0, 0.5)))
    assert shown[0, 0].tolist() == [255, 255, 255]
