"""Colour spaces: curves and matrices against planted numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.imaging.colour_profile import (
    BT709_CURVE,
    SRGB_CURVE,
    SRGB_PRIMARIES,
    ColourProfile,
    Curve,
    check_profile,
    colorants_of,
    convert_to_srgb,
    decode_light,
    encode_light,
    is_srgb,
)
from sdd_toolkit.imaging.encoding import Encoding, decode

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
CURVES = {"srgb": SRGB_CURVE, "gamma": Curve(2.2), "adobe": Curve(563 / 256), "linear": Curve(), "bt709": BT709_CURVE,
          "samples": Curve(samples=tuple((i / 63) ** 1.8 for i in range(64)))}  # fmt: skip


def profile_of(primaries: tuple = SRGB_PRIMARIES, curve: Curve = SRGB_CURVE, name: str = "planted") -> ColourProfile:
    return ColourProfile(name, (curve, curve, curve), colorants_of(primaries))


def test_the_matrix_of_display_p3_is_the_published_one() -> None:
    published = [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]
    np.testing.assert_allclose(profile_of(P3).to_srgb, published, atol=6e-4)


@pytest.mark.parametrize("primaries", [SRGB_PRIMARIES, P3, BT2020])
def test_grey_stays_grey_and_white_white(primaries: tuple) -> None:
    light = np.linspace(0, 1, 11, dtype=np.float32)[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(convert_to_srgb(light, profile_of(primaries)), light, atol=2e-6)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_code_comes_back(name: str, dtype: type) -> None:
    codes = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 1, 1).repeat(3, axis=2)
    profile = profile_of(P3, CURVES[name])
    np.testing.assert_array_equal(encode_light(decode_light(codes, profile), profile, dtype), codes)


def test_the_curve_of_srgb_is_that_of_the_encoding() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1).repeat(3, axis=2)
    np.testing.assert_allclose(decode_light(codes, profile_of()), decode(codes, Encoding.SRGB8), atol=2e-6)


def test_each_channel_has_its_own_curve() -> None:
    profile = replace(profile_of(), curves=(Curve(), Curve(2.0), Curve(3.0)))
    light = decode_light(np.full((1, 1, 3), 51, np.uint8), profile)
    np.testing.assert_allclose(light[0, 0], (0.2, 0.04, 0.008), atol=1e-6)


def test_srgb_is_recognised_by_numbers_and_nothing_else_is() -> None:
    samples = tuple(float(v) for v in np.round(decode(np.arange(256, dtype=np.uint8), Encoding.SRGB8) * 65535) / 65535)
    assert is_srgb(profile_of(name="any name"))
    assert is_srgb(profile_of(curve=Curve(samples=samples)))
    for other in (profile_of(P3), profile_of(BT2020), profile_of(curve=Curve(2.2)), profile_of(curve=BT709_CURVE),
                  profile_of(curve=Curve()), profile_of(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)))):  # fmt: skip
        assert not is_srgb(other)


@pytest.mark.parametrize(
    "curve",
    [
        Curve(samples=(0.0, 0.0)),
        Curve(samples=(0.0, 0.8, 0.2, 1.0)),
        Curve(gamma=0.0),
        Curve(1e9),
        Curve(2.2, a=-1, b=1),
        Curve(-1.0),
    ],
)
def test_a_curve_that_cannot_be_inverted_is_refused(curve: Curve) -> None:
    with pytest.raises(ValueError, match="a curve"):
        check_profile(profile_of(curve=curve))


@given(st.lists(st.floats(-2, 2), min_size=8, max_size=8))
def test_any_primaries_are_refused_or_give_a_neutral_white(values: list[float]) -> None:
    points = [(values[i], values[i + 1]) for i in range(0, 8, 2)]
    try:
        profile = ColourProfile("any", (SRGB_CURVE,) * 3, colorants_of(points[:3], points[3]))
        check_profile(profile)
    except ValueError:
        return
    np.testing.assert_allclose(profile.to_srgb.sum(axis=1), 1, atol=1e-6)
