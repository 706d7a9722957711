"""Frames in camera RGB."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.frames.reading import read_camera_rgb, read_full, read_half
from sdd_toolkit.imaging.binning import bin_2x2
from tests.support.dng_files import BGGR, GBRG, NEUTRAL, RGGB, scene_rgb, write_dng


@pytest.mark.parametrize("cfa", [RGGB, GBRG, BGGR])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_camera_rgb_is_the_planted_light_without_white_balance(
    tmp_path: Path, cfa: tuple[int, ...], orientation: int
) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(120, 160), cfa, orientation=orientation)
    found, half = read_camera_rgb(path), read_half(path)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(bin_2x2(found.rgb) - half.rgb)[inner].max() < 0.004
    assert found.white_balance == half.white_balance


def test_a_highlight_is_not_cut_where_white_balance_would_lift_it_over_the_top(tmp_path: Path) -> None:
    rgb = np.full((60, 80, 3), (0.8, 0.9, 0.85))
    found = read_camera_rgb(write_dng(tmp_path / "a.dng", rgb)).rgb
    np.testing.assert_allclose(found[20:40, 20:60].mean(axis=(0, 1)), (0.8, 0.9, 0.85), atol=0.002)


def test_balanced_and_in_srgb_it_is_the_full_frame(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(120, 160) * np.array(NEUTRAL))
    found = read_camera_rgb(path)
    gains = np.array(found.white_balance) / min(found.white_balance)
    srgb = (found.rgb * gains) @ np.array(found.to_srgb).T
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(np.clip(srgb, 0, 1)[inner], read_full(path)[inner], atol=0.004)


def test_an_image_comes_as_linear_srgb_of_no_camera(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60, 3), 128, np.uint8))
    found = read_camera_rgb(tmp_path / "a.png")
    assert found.rgb[3, 3] == pytest.approx([0.2158605] * 3, abs=1e-6)
    assert found.white_balance == (1.0, 1.0, 1.0)
