from __future__ import annotations

import io

import numpy as np
import pytest

from capture.virtual.truth import SurfaceMotion, Truth, leaves_frame
from sdd_toolkit.imaging import geometry

SHIFT = np.array([[1.0, 0, 3.0], [0, 1, -2], [0, 0, 1]])


def test_what_leaves_the_frame_is_occluded() -> None:
    occlusion = leaves_frame(geometry.displacement(SHIFT, (20, 30)))
    assert occlusion[:2].all()
    assert occlusion[:, -3:].all()
    assert not occlusion[2:, :-3].any()


def test_an_object_that_jumps_carries_its_pixels_and_hides_others() -> None:
    front, after = np.zeros((44, 64), np.int32), np.zeros((44, 64), np.int32)
    front[12:22, 12:22] = 1
    after[12:22, 27:37] = 1
    motion = SurfaceMotion(front, after, np.array([[0, 0], [15, 0]], np.int32), margin_px=2)
    y, x = np.mgrid[0:40, 0:60].astype(np.float64)
    moved_x, moved_y, hidden = motion.follow(x + 0.3, y - 0.3)
    assert np.all((moved_x - x - 0.3)[10:20, 10:20] == pytest.approx(15.0))
    assert np.count_nonzero(moved_x - x > 1) == 100
    assert np.all(moved_y == y - 0.3)
    assert np.array_equal(hidden, after[2:-2, 2:-2] == 1)


def test_the_archive_holds_exactly_the_named_arrays() -> None:
    frame = np.zeros((4, 6), np.float32)
    truth = Truth(SHIFT, np.zeros((4, 6, 2), np.float32), frame > 0, frame, np.zeros((4, 6, 3), np.float32))
    held = np.load(io.BytesIO(truth.npz()))
    assert held.files == ["homography", "displacement", "occlusion", "coc_px", "aligned"]
    assert held["homography"] == pytest.approx(SHIFT)
    assert str(np.load(io.BytesIO(truth.npz("clipped")))["defect"]) == "clipped"
    assert truth.npz() == truth.npz()
