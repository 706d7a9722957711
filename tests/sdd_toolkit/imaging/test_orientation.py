from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sdd_toolkit.imaging.orientation import compose_orientations, invert_orientation, turn_image, turn_size

codes = st.integers(1, 8)


@pytest.mark.parametrize("code", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(code: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = code
    Image.fromarray(image).save(stream, "png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    assert np.array_equal(turn_image(image, code), expected)
    assert turn_size((4, 6), code) == expected.shape[:2]


@given(codes, codes)
def test_turns_are_composed_and_undone(first: int, second: int) -> None:
    image = np.arange(12).reshape(3, 4)
    both = turn_image(turn_image(image, first), second)
    assert np.array_equal(turn_image(image, compose_orientations(first, second)), both)
    assert compose_orientations(first, invert_orientation(first)) == 1
