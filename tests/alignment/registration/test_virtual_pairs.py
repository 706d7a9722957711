"""Registration on the virtual camera, whose truth the aligner never sees."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.registration.alignment_record import scale_alignment
from alignment.registration.register import register
from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import render_pair
from sdd_toolkit.records import Alignment
from tests.support.planted_pairs import corner_error_px

CAMERA = SimulateConfig(width=864, height=576, pixel_pitch_um=41.7, min_coc_px=3.0, max_coc_px=6.0)


def binned(mosaic: np.ndarray) -> np.ndarray:
    light = (mosaic.astype(np.float32) - CAMERA.black_level) / (CAMERA.white_level - CAMERA.black_level)
    green = 0.5 * (light[0::2, 1::2] + light[1::2, 0::2])
    return np.stack([light[0::2, 0::2], green, light[1::2, 1::2]], axis=-1)


def shot(kind: str, index: int, defect: str | None) -> tuple[Alignment, float]:
    pair = render_pair(CAMERA, kind, seed=11, index=index, defect=defect)
    half = register(binned(pair.blur_mosaic), binned(pair.sharp_mosaic))
    found = scale_alignment(half, 2, (CAMERA.height, CAMERA.width))
    return found, corner_error_px(found.homography, pair.plan.homography, found.size)


@pytest.mark.parametrize(("kind", "index"), [("focus", 0), ("focus", 1), ("aperture", 2)])
def test_a_good_pair_is_aligned_to_a_small_part_of_a_pixel(kind: str, index: int) -> None:
    found, error_px = shot(kind, index, None)
    assert found.failure is None
    assert error_px < 0.2
    assert found.residual_px < 0.5
    assert found.unexplained_fraction < 0.01


def test_a_moving_object_shows_in_the_unexplained_tiles_and_nowhere_else() -> None:
    found, error_px = shot("focus", 3, "moving_object")
    assert found.failure is None
    assert error_px < 0.3
    assert found.unexplained_fraction > 0.04
