"""Invariances of the registration: properties over drawn pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import alignment
from sdd_toolkit.imaging import resampling
from sdd_toolkit.records import Alignment
from tests.support.planted_motion import camera_motion, dead_leaves, plant_pair
from tests.support.planted_pairs import corner_error_px

Frame = NDArray[np.float32]

WIDTH, HEIGHT = 432, 320
CUT_PX = 16
PLANTED = {
    "seed": st.integers(0, 999),
    "radius_px": st.just(0.0) | st.floats(0.3, 6.0),
    "zoom": st.floats(0.98, 1.02),
    "rotation_deg": st.floats(-1.0, 1.0),
    "shift_px": st.tuples(st.floats(-8.0, 8.0), st.floats(-8.0, 8.0)),
    "gain": st.floats(0.7, 1.0),
}
SCENES = st.fixed_dictionaries(PLANTED)
MOVES = st.builds(
    camera_motion,
    zoom=st.floats(0.99, 1.01),
    rotation_deg=st.floats(-0.5, 0.5),
    shift_px=st.tuples(st.floats(-4.0, 4.0), st.floats(-4.0, 4.0)),
    perspective=st.floats(-1e-5, 1e-5),
)
# A registration takes a third of a second: few examples, the same ones every time, and no search for smaller ones.
few = settings(max_examples=5, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))

# How each operation moves the pixels of a (HEIGHT, WIDTH) frame.
SYMMETRIES: dict[str, tuple[Callable[[Frame], Frame], NDArray[np.float64]]] = {
    "quarter turn": (np.rot90, np.array([[0, 1, 0], [-1, 0, WIDTH - 1], [0, 0, 1.0]])),
    "left-right": (np.fliplr, np.array([[-1, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1.0]])),
    "up-down": (np.flipud, np.array([[1, 0, 0], [0, -1, HEIGHT - 1], [0, 0, 1.0]])),
}


def registered(blur: Frame, sharp: Frame) -> Alignment:
    found = alignment.register(np.ascontiguousarray(blur), np.ascontiguousarray(sharp))
    assert found.failure is None, found.detail
    return found


def limit_px(first: Alignment, second: Alignment) -> float:
    """Largest admissible distance between two registrations, from their own error estimates."""
    assert first.error_px is not None
    assert second.error_px is not None
    return max(0.02, 3 * (first.error_px + second.error_px))


def moved_by(x_px: float, y_px: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x_px], [0, 1, y_px], [0, 0, 1.0]])


@few
@given(scene=SCENES)
def test_swapping_the_frames_inverts_the_homography_and_the_gain(scene) -> None:
    pair = plant_pair(**scene)
    there, back = registered(pair.blur, pair.sharp), registered(pair.sharp, pair.blur)
    gap_px = corner_error_px(np.linalg.inv(back.homography), there.homography, there.size)
    assert gap_px < limit_px(there, back)
    assert back.gain * there.gain == pytest.approx(1.0, abs=2e-3)
    assert back.zoom * there.zoom == pytest.approx(1.0, abs=1e-4)


@few
@given(
    scene=SCENES,
    move=MOVES,
    corner=st.tuples(st.integers(0, 2 * CUT_PX), st.integers(0, 2 * CUT_PX)),
)
def test_warping_the_blurred_frame_further_and_cutting_it_elsewhere_composes(scene, move, corner) -> None:
    pair = plant_pair(**scene)
    plain = registered(pair.blur, pair.sharp)
    further = resampling.warp(pair.blur, move, (HEIGHT, WIDTH))
    left, top = corner
    high, wide = HEIGHT - 2 * CUT_PX, WIDTH - 2 * CUT_PX
    found = registered(
        further[top : top + high, left : left + wide], pair.sharp[CUT_PX : CUT_PX + high, CUT_PX : CUT_PX + wide]
    )
    expected = moved_by(-CUT_PX, -CUT_PX) @ plain.homography @ np.linalg.inv(move) @ moved_by(left, top)
    assert corner_error_px(found.homography, expected, found.size) < limit_px(plain, found)


@pytest.mark.parametrize("name", SYMMETRIES)
@settings(few, max_examples=3)
@given(scene=SCENES)
def test_turning_or_flipping_both_frames_commutes(name: str, scene) -> None:
    applied, matrix = SYMMETRIES[name]
    pair = plant_pair(**scene)
    plain = registered(pair.blur, pair.sharp)
    found = registered(applied(pair.blur), applied(pair.sharp))
    back = np.linalg.inv(matrix) @ found.homography @ matrix
    assert corner_error_px(back, plain.homography, plain.size) < limit_px(plain, found)
    assert found.gain == pytest.approx(plain.gain, rel=2e-3)
    assert found.coc_px == pytest.approx(plain.coc_px, abs=0.1)


@pytest.mark.parametrize("brighter", ["blur", "sharp"])
@settings(few, max_examples=3)
@given(scene=SCENES, factor=st.sampled_from([0.5, 2.0]) | st.floats(0.5, 2.0))
def test_the_exposure_of_either_frame_changes_nothing_but_the_gain(brighter: str, scene, factor: float) -> None:
    # Half as bright, so that twice as much still clips nothing.
    pair = plant_pair(**scene, image=dead_leaves(scene["seed"]) * np.float32(0.48))
    plain = registered(pair.blur, pair.sharp)
    changed = {"blur": pair.blur, "sharp": pair.sharp}
    changed[brighter] = changed[brighter] * np.float32(factor)
    found = registered(**changed)
    assert corner_error_px(found.homography, plain.homography, plain.size) < 1e-4
    assert found.gain == pytest.approx(plain.gain * (factor if brighter == "sharp" else 1 / factor), rel=1e-4)
    for field in ("model", "box"):
        assert getattr(found, field) == getattr(plain, field)
    for field in ("error_px", "coc_px", "residual_px", "ncc", "unexplained_fraction", "texture_fraction"):
        assert getattr(found, field) == pytest.approx(getattr(plain, field), rel=1e-3, abs=1e-6)
