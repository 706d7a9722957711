"""The box of the sharp frame that the blurred one covers."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.estimation.valid_box import valid_box
from sdd_toolkit.imaging import geometry, resampling

SIZE = (603, 1210)
MOTIONS = {
    "shift": [[1, 0, 7.3], [0, 1, -12.6], [0, 0, 1]],
    "smaller": [[0.95, 0, 20], [0, 0.95, 11], [0, 0, 1]],
    "turned": [[1.01, -0.02, 4], [0.02, 1.01, -9], [0, 0, 1]],
    "tilted": [[1.0, 0.004, -3], [0.001, 0.99, 5], [8e-6, -5e-6, 1]],
}


def area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.mark.parametrize("motion", MOTIONS)
def test_all_of_it_is_covered_and_next_to_no_larger_one_is(motion: str) -> None:
    matrix = np.array(MOTIONS[motion], dtype=np.float64)
    left, top, right, bottom = found = valid_box(matrix, SIZE)
    covered = resampling.valid_mask(matrix, SIZE, SIZE)
    assert covered[top:bottom, left:right].all()
    assert area(found) > 0.99 * area(geometry.largest_box(covered))


def test_with_a_radial_term_all_of_it_is_covered_too() -> None:
    left, top, right, bottom = valid_box(np.eye(3), SIZE, 0.01)
    assert resampling.valid_mask(np.eye(3), SIZE, SIZE, radial=0.01)[top:bottom, left:right].all()
    assert area((left, top, right, bottom)) > 0.9 * SIZE[0] * SIZE[1]


def test_nothing_is_covered_by_a_frame_that_lies_elsewhere() -> None:
    assert area(valid_box(np.array([[1, 0, 5000], [0, 1, 0], [0, 0, 1.0]]), SIZE)) == 0
