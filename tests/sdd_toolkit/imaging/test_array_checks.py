"""Arrays of a user's program: what is taken, and what is refused with what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sdd_toolkit.imaging.array_checks import boolean_mask, linear_frame
from sdd_toolkit.imaging.encoding import Encoding, decode, encode, encode_integers, srgb_decode, srgb_encode
from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.imaging.perceptual_hash import hash_of
from sdd_toolkit.quality.sharpness import measure_detail, measure_quality, relative_detail

LIGHT = np.random.default_rng(0).uniform(0, 1, (24, 32, 3)).astype(np.float32)
CODES = np.rint(LIGHT * 255).astype(np.uint8)


def spoiled(value: float) -> np.ndarray:
    frame = LIGHT.copy()
    frame[5, 7, 1] = value
    return frame


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "codes as floats": (CODES.astype(np.float32), ValueError, "divide by the white level"),
    "16-bit codes as floats": (CODES.astype(np.float64) * 257, ValueError, "divide by the white level"),
    "values from -1": (LIGHT * 2 - 1, ValueError, "(x + 1) / 2"),
    "NaN": (spoiled(np.nan), ValueError, "1 values that are not finite, the first at row, column, channel (5, 7, 1)"),
    "infinity": (spoiled(-np.inf), ValueError, "not finite"),
    "beyond float32": (spoiled(0).astype(np.float64) + 1e300, ValueError, "not finite"),
    "int64": (CODES.astype(np.int64), TypeError, "int64"),
    "int8": (CODES.astype(np.int8), TypeError, "int8"),
    "bool": (LIGHT > 0.5, TypeError, "bool"),
    "complex": (LIGHT.astype(np.complex64), TypeError, "complex64"),
    "objects": (LIGHT.astype(object), TypeError, "object"),
    "masked": (np.ma.masked_array(LIGHT, LIGHT > 0.5), TypeError, "masked array"),
    "a list": (LIGHT.tolist(), TypeError, "np.asarray(frame)"),
    "grey": (LIGHT[..., 0], ValueError, "frame[..., None].repeat(3, axis=2)"),
    "one channel": (LIGHT[..., :1], ValueError, "frame.repeat(3, axis=2)"),
    "alpha": (np.zeros((24, 32, 4), np.float32), ValueError, "frame[..., :3]"),
    "channels first": (LIGHT.transpose(2, 0, 1), ValueError, "frame.transpose(1, 2, 0)"),
    "a batch": (LIGHT[None], ValueError, "frame[0]"),
    "two channels": (LIGHT[..., :2], ValueError, "red, green and blue"),
    "no dimension": (np.array(0.5, np.float32), ValueError, "red, green and blue"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_of_another_kind_is_refused_with_what_to_write(name: str) -> None:
    frame, kind, says = REFUSED[name]
    with pytest.raises(kind) as caught:
        linear_frame(frame, "frame")
    assert says in str(caught.value)
    assert str(caught.value).startswith("frame ")


def test_integers_are_decoded_from_srgb() -> None:
    assert linear_frame(CODES, "frame") == pytest.approx(srgb_decode(CODES / np.float32(255)), abs=1e-6)
    wide = CODES.astype(np.uint16) * 257
    for order in ("<u2", ">u2"):
        assert linear_frame(wide.astype(order), "frame") == pytest.approx(linear_frame(CODES, "frame"), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.longdouble])
def test_every_float_type_is_taken(dtype: str) -> None:
    taken = linear_frame(LIGHT.astype(dtype), "frame")
    assert taken.dtype == np.float32
    assert taken == pytest.approx(LIGHT, abs=1e-3)


def test_a_float32_frame_is_taken_as_it_is() -> None:
    assert linear_frame(LIGHT, "frame") is LIGHT


def test_views_and_read_only_frames_are_taken() -> None:
    view = LIGHT[::-1, ::2, ::-1]
    view.flags.writeable = False
    taken = linear_frame(view, "frame")
    assert taken.flags.c_contiguous
    assert np.array_equal(taken, view)


def test_light_above_saturation_and_below_black_is_taken() -> None:
    assert linear_frame(spoiled(3.9), "frame").max() == np.float32(3.9)
    assert linear_frame(spoiled(-0.4), "frame").min() == np.float32(-0.4)
    assert linear_frame(CODES.astype(np.float32), "frame", bounded=False).max() > 200


def test_a_mask_of_numbers_or_of_another_size_is_refused() -> None:
    assert boolean_mask(LIGHT[..., 0] > 0.5, (24, 32), "mask").dtype == np.bool_
    with pytest.raises(TypeError, match="write mask > 0"):
        boolean_mask(CODES[..., 0], (24, 32), "mask")
    with pytest.raises(ValueError, match="24, 32"):
        boolean_mask(LIGHT[..., 0] > 0.5, (32, 24), "mask")


def test_measures_take_integers_and_refuse_codes_as_floats() -> None:
    light = linear_frame(CODES, "frame")
    assert measure_quality(CODES, CODES, 0.0, None) == measure_quality(light, light, 0.0, None)
    assert relative_detail(CODES) == relative_detail(light)
    measures: tuple[Callable[[np.ndarray], object], ...] = (
        measure_detail,
        relative_detail,
        lambda frame: measure_quality(LIGHT, frame, 0.0, None),
    )
    for measure in measures:
        for frame in (CODES.astype(np.float32), spoiled(np.nan), LIGHT[..., 0]):
            with pytest.raises(ValueError, match=r"frame|sharp"):
                measure(frame)


def test_curves_refuse_the_wrong_type_and_nan() -> None:
    integers: Any = CODES
    for curve in (srgb_encode, srgb_decode, luminance, lambda codes: encode(codes, Encoding.SRGB8)):
        with pytest.raises(TypeError, match="uint8"):
            curve(integers)
    floats: Any = LIGHT
    for encoding in Encoding:
        with pytest.raises(TypeError, match="float32"):
            decode(floats, encoding)
        with pytest.raises(ValueError, match="NaN"):
            encode(spoiled(np.nan), encoding)
    with pytest.raises(TypeError, match="uint8"):
        encode_integers(integers, Encoding.SRGB8)
    with pytest.raises(TypeError, match="uint8"):
        decode(integers, Encoding.SRGB16)


def test_a_hash_is_of_codes_only() -> None:
    floats: Any = LIGHT
    with pytest.raises(TypeError, match="encode the frame first"):
        hash_of(floats)
    with pytest.raises(ValueError, match="H, W, 3"):
        hash_of(CODES[..., 0])
