"""Rows that a file did not hold, found in the decoded mosaic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.errors import RawError
from sdd_toolkit.frames.reading import develop_frame, read_half
from sdd_toolkit.raw.completeness import empty_rows, repeated_rows
from tests.support.dng_files import scene_rgb, write_dng

NOISE = np.random.default_rng(1).integers(1, 4000, (60, 40)).astype(np.uint16)


@pytest.mark.parametrize(("first", "count"), [(0, 5), (20, 4), (30, 30), (55, 5)])
def test_a_run_of_rows_of_zeros_is_found(first: int, count: int) -> None:
    mosaic = NOISE.copy()
    mosaic[first : first + count] = 0
    assert empty_rows(mosaic, 0) == empty_rows(mosaic, 64) == (first, count)


def test_few_rows_of_zeros_dark_frames_and_zeros_among_noise_are_no_gap() -> None:
    few = NOISE.copy()
    few[-3:] = 0
    dark = np.where(NOISE > 2500, 1, 0).astype(np.uint16)
    for mosaic in (NOISE, few, np.zeros_like(NOISE), dark):
        assert empty_rows(mosaic, 0) == (0, 0)


def test_black_rows_of_a_frame_that_stores_black_as_zero_are_no_gap() -> None:
    mosaic = NOISE.copy()
    mosaic[40:] = 0
    mosaic[:, 30:] = 0
    assert empty_rows(mosaic, 0) == (0, 0)
    assert empty_rows(mosaic, 64) == (40, 20)


@pytest.mark.parametrize("period", [1, 2])
def test_rows_that_repeat_at_the_end_are_counted_unless_they_are_burnt_out(period: int) -> None:
    mosaic = NOISE.copy()
    for row in range(50, 60):
        mosaic[row] = mosaic[row - period]
    assert repeated_rows(mosaic, 4095) == 10
    assert repeated_rows(NOISE, 4095) == 0
    mosaic[50:] = 4095
    assert repeated_rows(mosaic, 4095) == 0


@pytest.mark.parametrize("rows", [np.s_[30:], np.s_[20:26], np.s_[:6]])
def test_a_dng_of_its_full_length_that_lacks_rows_is_refused_wherever_it_is_read(tmp_path: Path, rows: slice) -> None:
    def spoil(mosaic: np.ndarray) -> None:
        mosaic[rows] = 0

    path = write_dng(tmp_path / "a.dng", scene_rgb(48, 64), spoil=spoil)
    for read in (read_half, develop_frame):
        with pytest.raises(RawError, match=r"is cut short: rows .* hold no light, nor noise"):
            read(path)
