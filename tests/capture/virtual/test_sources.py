from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.sources import PhotographSource, find_photographs, load_picture
from capture.virtual.stage import Series, simulate_pairs
from sdd_toolkit.errors import InputError
from tests.support.paths import SHARED

CONFIG = SimulateConfig(width=128, height=96, max_coc_px=4.0)
NATURAL = SHARED / "data" / "natural"


def photograph(path: Path, size: tuple[int, int] = (96, 128), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("depth", ["layers", "ramp"])
def test_a_photograph_alone_gets_a_depth_that_the_seed_draws(tmp_path: Path, depth: str) -> None:
    config = CONFIG.model_copy(update={"depth": depth})
    source = PhotographSource(photograph(tmp_path / "a.png"))
    first, again, other = (
        load_picture(source, config, np.random.default_rng(seed)).inverse_depth for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first.min(), first.max()) == (0, 1)
    assert (len(np.unique(first)) == 6) is (depth == "layers")


def test_a_folder_gives_its_photographs_by_name_whatever_their_format(tmp_path: Path) -> None:
    for name in ("b.jpg", "A.tif", "c.PNG", "d.png"):
        photograph(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photograph")
    assert [source.image.name for source in find_photographs(tmp_path)] == ["A.tif", "b.jpg", "c.PNG", "d.png"]


def test_every_photograph_of_a_folder_becomes_a_scene_and_a_broken_one_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photograph(tmp_path / "in" / "a.png")
    photograph(tmp_path / "in" / "c.png", (150, 90), seed=1)
    (tmp_path / "in" / "b.png").write_bytes(b"not a picture")
    report = simulate_pairs(
        tmp_path / "out", CONFIG, Series(photographs=find_photographs(tmp_path / "in"), kind="aperture")
    )
    assert (report.total, report.done, report.rejected) == (3, 2, {"unreadable": 1})
    assert [path.name for path in sorted((tmp_path / "out").glob("scene-*"))] == ["scene-0001", "scene-0003"]


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:, :20] = 255
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif, quality=95)
    linear = load_picture(PhotographSource(tmp_path / "a.jpg"), CONFIG, np.random.default_rng(0)).linear
    assert linear.shape == (90, 60, 3)
    assert linear[5].mean() > 0.9 > 0.1 > linear[85].mean()


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photograph"):
        find_photographs(tmp_path)


def test_one_depth_map_does_not_fit_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        find_photographs(tmp_path, tmp_path / "depth.png")


@pytest.mark.skipif(not NATURAL.is_dir(), reason="shared/data/natural is not here")
def test_real_photographs_are_shot(tmp_path: Path) -> None:
    photographs = find_photographs(NATURAL)[:2]
    config = SimulateConfig(width=256, height=170, depth="ramp")
    assert simulate_pairs(tmp_path / "out", config, Series(photographs=photographs, kind="aperture")).done == 2
