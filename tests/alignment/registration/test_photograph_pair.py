"""Two photographs, no manifest: what is written, and what happens when they cannot be aligned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alignment.config import AlignConfig
from alignment.registration.photograph_pair import align_photographs
from alignment.transforms import transform as transforms
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.geometry import rescale_homography
from tests.support.planted_motion import plant_pair, write_at_double_size
from tests.support.planted_pairs import corner_error_px

CONFIG = AlignConfig(max_radius_px=6.0)


def photograph(path: Path, linear: np.ndarray) -> Path:
    write_at_double_size(path, linear)
    return path


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, pair = tmp_path_factory.mktemp("shots"), plant_pair(30)
    return photograph(folder / "soft.png", pair.blur), photograph(folder / "crisp.png", pair.sharp)


@pytest.fixture(scope="module")
def done(shots: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    align_photographs(*shots, out, CONFIG)
    return out


def test_everything_about_the_pair_is_named_after_the_blurred_frame(done: Path) -> None:
    names = ["soft.json", "soft_aligned.tif", "soft_aligned_valid.png", "soft_check.png", "soft_flow.npz"]
    assert sorted(path.name for path in done.iterdir()) == names


def test_the_transform_is_the_planted_one(done: Path) -> None:
    transform, flow = transforms.load_transform(done / "soft.json")
    assert (transform.blur, transform.sharp, transform.size) == ("soft.png", "crisp.png", (640, 864))
    assert corner_error_px(transform.matrix, rescale_homography(plant_pair(30).homography, 2.0), transform.size) < 0.2
    assert transform.gain == pytest.approx(1 / 0.95, rel=0.02)
    assert flow == done / "soft_flow.npz"
    assert "shift +6.60 -4.2" in transforms.describe_transform(transform)


def test_the_aligned_frame_lies_on_the_sharp_one(done: Path, shots: tuple[Path, Path]) -> None:
    soft, crisp, moved = (
        read_image(path)[40:-40, 40:-40].astype(float) for path in (*shots, done / "soft_aligned.tif")
    )
    before, after = (float(np.corrcoef(image.ravel(), crisp.ravel())[0, 1]) for image in (soft, moved))
    assert after > before + 0.05


def test_fringes_vanish_from_left_to_right_in_the_check_picture(done: Path) -> None:
    check = read_image(done / "soft_check.png").astype(int)
    assert check.shape == (320, 2 * 432 + 8, 3)
    fringe = np.abs(check[..., 0] - check[..., 1])[20:-20]
    assert fringe[:, 460:852].mean() < 0.8 * fringe[:, 20:412].mean()


def test_existing_files_are_kept_unless_overwrite_is_given(done: Path, shots: tuple[Path, Path]) -> None:
    before = {path.name: path.read_bytes() for path in done.iterdir()}
    with pytest.raises(InputError, match=r"soft\.json, .* exist already"):
        align_photographs(*shots, done, CONFIG)
    align_photographs(*shots, done, CONFIG, overwrite=True)
    assert {path.name: path.read_bytes() for path in done.iterdir()} == before


def test_frames_of_different_scenes_leave_nothing_behind(shots: tuple[Path, Path], tmp_path: Path) -> None:
    other = photograph(tmp_path / "other.png", plant_pair(99).sharp)
    with pytest.raises(InputError, match="do not show the same scene"):
        align_photographs(shots[0], other, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_frames_of_different_sizes_are_refused(shots: tuple[Path, Path], tmp_path: Path) -> None:
    cut = photograph(tmp_path / "cut.png", plant_pair(30).sharp[4:])
    with pytest.raises(InputError, match="864x640 and 864x632 px"):
        align_photographs(shots[0], cut, tmp_path / "out", CONFIG)


def test_frames_too_small_to_align_are_refused(tmp_path: Path) -> None:
    small = photograph(tmp_path / "small.png", np.full((20, 30, 3), 0.5, np.float32))
    with pytest.raises(InputError, match="too small"):
        align_photographs(small, small, tmp_path / "out", CONFIG)
