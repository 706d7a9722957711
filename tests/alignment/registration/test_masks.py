"""Masks: white is used, all four pixels or none, and nothing is guessed about names and sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alignment.registration.masks import check_masks, find_mask, read_mask
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.frames.writing import write_values

SIZE = (6, 8)


def painted(path: Path, size: tuple[int, int] = SIZE, black: tuple[int, int] | None = (2, 5)) -> Path:
    mask = np.full(size, 255, np.uint8)
    if black is not None:
        mask[black] = 0
    write_values(path, mask)
    return path


def test_a_half_size_pixel_is_used_if_all_four_of_its_pixels_are_white(tmp_path: Path) -> None:
    mask = read_mask(painted(tmp_path / "m.png"), SIZE)
    assert mask.shape == (3, 4)
    assert np.argwhere(~mask).tolist() == [[1, 2]]


def test_a_mask_of_half_the_size_is_taken_as_it_is(tmp_path: Path) -> None:
    mask = read_mask(painted(tmp_path / "m.tif", (3, 4), (0, 3)), SIZE)
    assert np.argwhere(~mask).tolist() == [[0, 3]]


def test_a_mask_painted_on_a_photograph_of_odd_size_fits(tmp_path: Path) -> None:
    mask = read_mask(painted(tmp_path / "m.png", (7, 9), (6, 8)), SIZE)
    assert mask.all()


@pytest.mark.parametrize(
    ("dtype", "grey", "used"), [(np.uint8, 127, False), (np.uint8, 128, True), (np.uint16, 40000, True)]
)
def test_grey_counts_as_the_nearer_of_black_and_white(tmp_path: Path, dtype: type, grey: int, used: bool) -> None:
    write_values(tmp_path / "m.tif", np.full(SIZE, grey, dtype))
    assert read_mask(tmp_path / "m.tif", SIZE).all() == used


def test_a_colour_is_not_white(tmp_path: Path) -> None:
    write_values(tmp_path / "m.png", np.full((*SIZE, 3), (255, 255, 0), np.uint8))
    assert not read_mask(tmp_path / "m.png", SIZE).any()


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="8x9 px, the frame 8x6 px"):
        read_mask(painted(tmp_path / "m.png", (9, 8)), SIZE)
    with pytest.raises(RawError):
        read_mask(tmp_path / "missing.png", SIZE)


def test_a_file_is_the_mask_of_every_pair_a_folder_has_one_for_each(tmp_path: Path) -> None:
    single = painted(tmp_path / "single.png")
    folder = tmp_path / "masks"
    folder.mkdir()
    painted(folder / "a.png")
    painted(folder / "b.tif")
    assert find_mask(single, "anything") == single
    assert [find_mask(folder, name) for name in "abc"] == [folder / "a.png", folder / "b.tif", None]
    assert find_mask(None, "a") is None


def test_pairs_without_a_mask_are_reported_and_a_folder_that_fits_none_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    painted(tmp_path / "a.png")
    check_masks(tmp_path, ["a"])
    assert not caplog.records
    check_masks(tmp_path, ["a", "b"])
    assert "1 of 2 pairs have no mask" in caplog.text
    with pytest.raises(InputError, match="no mask of any of the 2 pairs"):
        check_masks(tmp_path, ["x", "y"])
    with pytest.raises(InputError, match="there is no mask"):
        check_masks(tmp_path / "nowhere", ["a"])
