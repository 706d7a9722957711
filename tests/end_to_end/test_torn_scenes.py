"""A build whose split puts one subject into training and test: refused, without a card, until the split is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import sdd_in_process
from tests.support.dng_files import write_dng
from tests.support.planted_motion import blur_exactly, dead_leaves

CONFIG = """
[align]
working_megapixels = 0.1
min_textured_tiles = 4
[filter]
max_clipped_fraction = 1
max_unexplained_fraction = 1
[pack]
patch_size = 64
min_size_px = 64
[pack.split]
train = ["a", "b"]
test = ["{test}"]
[build]
sources = ["raw"]
leakage = "{leakage}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for scene, seed, level in (("a", 7, 0.5), ("b", 8, 0.5), ("c", 7, 0.45)):
        (tmp_path / "raw" / scene).mkdir(parents=True)
        picture = dead_leaves(seed, (320, 480)) * level
        write_dng(tmp_path / f"raw/{scene}/blur.dng", blur_exactly(picture, 2.5))
        write_dng(tmp_path / f"raw/{scene}/sharp.dng", picture)
    return tmp_path


def test_a_build_refuses_a_split_that_tears_a_scene_apart(folder: Path) -> None:
    build = ("build", folder / "sdd.toml", "--out", folder / "set")
    card = folder / "set/shards/README.md"
    (folder / "sdd.toml").write_text(CONFIG.format(test="c", leakage="refuse"))
    for _ in range(2):  # resuming changes nothing
        done = sdd_in_process(*build, check=False)
        assert done.returncode == 1
        assert "the split tears scenes apart: a (train, a) and c (test, c) look alike" in done.stderr
        assert "report.html" in done.stderr
        assert "Traceback" not in done.stderr
        assert not card.exists()
        assert not (folder / "set/shards/index.json").exists()
    (folder / "sdd.toml").write_text(CONFIG.format(test="c", leakage="warn"))
    assert sdd_in_process(*build, check=False).returncode == 0
    assert card.exists()
