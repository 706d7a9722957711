from __future__ import annotations

import io

import numpy as np
import pytest

from capture.virtual.truth import Truth, motion_truth
from sdd_toolkit.imaging import geometry

SHIFT = np.array([[1.0, 0, 3.0], [0, 1, -2], [0, 0, 1]])


def test_what_leaves_the_frame_is_occluded() -> None:
    nothing = np.zeros((20, 30), np.bool_)
    displacement, occlusion = motion_truth(geometry.displacement(SHIFT, (20, 30)), nothing, nothing, (0, 0))
    assert np.all(displacement == (3.0, -2.0))
    assert occlusion[:2].all()
    assert occlusion[:, -3:].all()
    assert not occlusion[2:, :-3].any()


def test_an_object_that_jumps_carries_its_pixels_and_hides_others() -> None:
    before, after = np.zeros((40, 60), np.bool_), np.zeros((40, 60), np.bool_)
    before[10:20, 10:20] = True
    after[10:20, 25:35] = True
    displacement, occlusion = motion_truth(np.zeros((40, 60, 2), np.float32), before, after, (15, 0))
    assert np.all(displacement[before] == (15.0, 0.0))
    assert np.all(displacement[~before] == 0)
    assert np.array_equal(occlusion, after)


def test_the_archive_holds_exactly_the_named_arrays() -> None:
    frame = np.zeros((4, 6), np.float32)
    truth = Truth(SHIFT, np.zeros((4, 6, 2), np.float32), frame > 0, frame, np.zeros((4, 6, 3), np.float32))
    held = np.load(io.BytesIO(truth.npz()))
    assert held.files == ["homography", "displacement", "occlusion", "coc_px", "aligned"]
    assert held["homography"] == pytest.approx(SHIFT)
    assert str(np.load(io.BytesIO(truth.npz("clipped")))["defect"]) == "clipped"
    assert truth.npz() == truth.npz()
