from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.sources import PhotographSource
from capture.virtual.stage import Series, simulate_pairs
from sdd_toolkit.errors import InputError, RawError

CONFIG = SimulateConfig(width=128, height=96, max_coc_px=4.0)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_workers_write_the_bytes_of_one(tmp_path: Path) -> None:
    simulate_pairs(tmp_path / "one", CONFIG, Series(scenes=2, seed=5))
    simulate_pairs(tmp_path / "two", CONFIG, Series(scenes=2, seed=5), executor="local:2")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert len(hashes(tmp_path / "one")) == 7


def test_a_second_run_only_shoots_what_is_missing(tmp_path: Path) -> None:
    simulate_pairs(tmp_path, CONFIG, Series(scenes=2))
    before = hashes(tmp_path)
    (tmp_path / "scene-0002" / "truth.npz").unlink()
    report = simulate_pairs(tmp_path, CONFIG, Series(scenes=2))
    assert (report.done, report.skipped, report.total) == (1, 1, 2)
    assert hashes(tmp_path) == before


def test_a_truth_cut_short_is_shot_again(tmp_path: Path) -> None:
    simulate_pairs(tmp_path, CONFIG, Series(scenes=1))
    before = hashes(tmp_path)
    path = tmp_path / "scene-0001" / "truth.npz"
    path.write_bytes(path.read_bytes()[:1000])
    assert simulate_pairs(tmp_path, CONFIG, Series(scenes=1)).done == 1
    assert hashes(tmp_path) == before


def test_more_scenes_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    simulate_pairs(tmp_path / "few", CONFIG, Series(scenes=1))
    simulate_pairs(tmp_path / "many", CONFIG, Series(scenes=2))
    few, many = hashes(tmp_path / "few"), hashes(tmp_path / "many")
    assert few.items() <= many.items()


def test_a_folder_of_another_series_is_refused_and_kept(tmp_path: Path) -> None:
    simulate_pairs(tmp_path, CONFIG, Series(scenes=1, seed=1))
    before = hashes(tmp_path)
    with pytest.raises(InputError, match="another series"):
        simulate_pairs(tmp_path, CONFIG, Series(scenes=1, seed=2))
    assert hashes(tmp_path) == before
    assert simulate_pairs(tmp_path, CONFIG, Series(scenes=1, seed=2), overwrite=True).done == 1


def test_an_optical_low_pass_makes_another_series_and_its_absence_the_one_of_old(tmp_path: Path) -> None:
    simulate_pairs(tmp_path, CONFIG, Series(scenes=1))
    assert "optical_low_pass_px" not in json.loads((tmp_path / "simulate.json").read_text())["config"]
    with pytest.raises(InputError, match="another series"):
        simulate_pairs(tmp_path, CONFIG.model_copy(update={"optical_low_pass_px": 0.45}), Series(scenes=1))


def test_defects_follow_the_good_scenes_and_say_what_they_are(tmp_path: Path) -> None:
    simulate_pairs(tmp_path, CONFIG, Series(scenes=1, defects=True))
    named = [str(np.load(tmp_path / f"scene-{n:04d}" / "truth.npz")["defect"]) for n in range(2, 9)]
    assert named == [
        "black_frame",
        "different_scene",
        "moving_object",
        "clipped",
        "both_blurred",
        "moving_leaf",
        "light_change",
    ]
    assert "defect" not in np.load(tmp_path / "scene-0001" / "truth.npz").files


def picture(tmp_path: Path, depth: np.ndarray) -> PhotographSource:
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    np.save(tmp_path / "depth.npy", depth)
    return PhotographSource(tmp_path / "image.png", tmp_path / "depth.npy")


def test_a_photograph_with_metres_is_shot(tmp_path: Path) -> None:
    source = picture(tmp_path, np.full((96, 128), 1.5))
    assert simulate_pairs(tmp_path / "out", CONFIG, Series(scenes=1, photographs=[source], kind="aperture")).done == 1


def test_a_png_depth_map_is_linear_in_inverse_depth(tmp_path: Path) -> None:
    image = picture(tmp_path, np.ones((96, 128))).image
    values = np.zeros((96, 128), np.uint16)
    values[:, 64:] = 65535
    cv2.imwrite(str(tmp_path / "depth.png"), values)
    config = CONFIG.model_copy(update={"near_m": 1.0, "far_m": 1.2})
    simulate_pairs(
        tmp_path / "out",
        config,
        Series(scenes=1, photographs=[PhotographSource(image, tmp_path / "depth.png")], kind="aperture"),
    )
    radii = np.load(tmp_path / "out" / "scene-0001" / "truth.npz")["coc_px"]
    assert len(np.unique(radii)) == 2


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.ones((95, 128)), "128x95"),
        (np.zeros((96, 128)), "0 m"),
        (np.full((96, 128), np.nan), "NaN"),
        (np.ones((96, 128, 3)), "shape"),
    ],
)
def test_an_impossible_depth_map_is_refused(tmp_path: Path, depth: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate_pairs(tmp_path / "out", CONFIG, Series(scenes=1, photographs=[picture(tmp_path, depth)]))
    assert not (tmp_path / "out").exists()


def test_a_pickled_depth_map_is_not_opened(tmp_path: Path) -> None:
    source = picture(tmp_path, np.ones((96, 128)))
    assert source.depth is not None
    np.save(source.depth, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(RawError, match="depth map"):
        simulate_pairs(tmp_path / "out", CONFIG, Series(scenes=1, photographs=[source]))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        simulate_pairs(tmp_path / "out", CONFIG, Series(scenes=1))
