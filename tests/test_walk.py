"""The whole walk with the real commands, small: RAW pairs in; data set, model, scores, a deblurred photograph out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdd_toolkit.images import read_image
from tests.command_line import sdd

CONFIG = """
[simulate]
width = 640
height = 448
[pack]
patch_size = 256
[train]
network_options = {width = 4, encoder_blocks = [1], middle_blocks = 1, decoder_blocks = [1]}
reblur_width = 4
steps = 4
warm_up_fraction = 0.5
flow = "dis"
crop = 64
batch = 1
"""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk with spaces")
    config = folder / "sdd.toml"
    config.write_text(CONFIG)
    shoot = ["--scenes", 3, "--kind", "aperture", "--seed", 2, "--out", folder / "raw", "--config", config]
    sdd("capture", "simulate", *shoot)
    sdd("build", config, "--source", folder / "raw", "--out", folder / "dataset")
    sdd("train", folder / "dataset/shards", "--out", folder / "model", "--config", config)
    return folder


def test_a_trained_checkpoint_is_scored_on_the_test_scenes(walked: Path) -> None:
    done = sdd("evaluate", walked / "model", walked / "dataset/shards", "--out", walked / "evaluation")
    assert "deblurred" in done.stdout
    scores = json.loads((walked / "evaluation/evaluation.json").read_text())
    assert "aligned" in json.dumps(scores)
    assert (walked / "evaluation/before_after.png").stat().st_size > 10_000


def test_a_raw_photograph_comes_out_deblurred_at_its_own_size(walked: Path) -> None:
    sdd("deblur", walked / "model", walked / "raw/scene-0001/blur.dng", "--out", walked / "deblurred")
    picture = read_image(walked / "deblurred/blur_deblurred.tif")
    assert (picture.shape, picture.dtype) == ((448, 640, 3), "uint16")


def test_training_leaves_logs_for_people_and_for_tables(walked: Path) -> None:
    assert (walked / "model/train.csv").read_text().count("\n") >= 2
    assert list((walked / "model").rglob("events.out.tfevents*"))
