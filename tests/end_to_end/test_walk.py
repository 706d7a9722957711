"""The whole walk with the real commands, small: RAW pairs in; data set, model, scores, a deblurred photograph out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sdd_toolkit
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint
from tests.support.command_line import sdd_in_process

CONFIG = """
[simulate]
width = 384
height = 288
[pack]
patch_size = 128
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
    sdd_in_process("capture", "simulate", *shoot)
    sdd_in_process("build", config, "--source", folder / "raw", "--out", folder / "dataset")
    sdd_in_process("train", folder / "dataset/shards", "--out", folder / "model", "--config", config)
    return folder


def test_a_trained_checkpoint_is_scored_on_the_test_scenes(walked: Path) -> None:
    done = sdd_in_process("evaluate", walked / "model", walked / "dataset/shards", "--out", walked / "evaluation")
    assert "deblurred" in done.stdout
    scores = json.loads((walked / "evaluation/evaluation.json").read_text())
    assert "aligned" in json.dumps(scores)
    assert (walked / "evaluation/before_after.png").stat().st_size > 10_000


def test_a_raw_photograph_comes_out_deblurred_at_its_own_size(walked: Path) -> None:
    sdd_in_process("deblur", walked / "model", walked / "raw/scene-0001/blur.dng", "--out", walked / "deblurred")
    picture = read_image(walked / "deblurred/blur_deblurred.tif")
    assert (picture.shape, picture.dtype) == ((288, 384, 3), "uint16")


def test_training_leaves_logs_for_people_and_for_tables(walked: Path) -> None:
    assert (walked / "model/train.csv").read_text().count("\n") >= 2
    assert list((walked / "model").rglob("events.out.tfevents*"))


def test_every_fingerprint_in_the_history_of_a_built_pair_leads_to_the_configuration_it_stands_for(
    walked: Path,
) -> None:
    with ShardReader(walked / "dataset/shards") as reader:
        configs, libraries = reader.index.configs, reader.index.libraries
        steps = {(step.stage, step.config) for name in reader.pair_ids for step in reader.record(name).history}
        packing = reader.index.config
    assert {stage for stage, _ in steps} == {"ingest", "align", "filter"}
    for stage, name in {*steps, ("pack", packing)}:
        assert configs[name]["stage"] == stage
        assert fingerprint(configs[name]["values"]) == name
    assert configs[packing]["values"]["patch_size"] == 128
    assert {"HDF5", "LibRaw", "numpy", "opencv-python-headless", "rawpy"} <= set(libraries)


def test_a_pair_is_traced_from_its_raw_files_to_its_shard(walked: Path) -> None:
    shards = walked / "dataset/shards"
    name = sdd_toolkit.read_index(shards)["id"][0]
    shown = json.loads(sdd_in_process("show", shards, name, "--json").stdout)
    raw = walked / "raw" / shown["files"]["sharp"]["path"]
    assert shown["files"]["sharp"]["sha256"] == sha256_of(raw)
    assert [step["stage"] for step in shown["steps"]] == ["ingest", "align", "filter"]
    assert shown["steps"][0]["values"]["pairing"] == "focus"
    assert shown["shard"]["sha256"] == sha256_of(shards / shown["shard"]["name"])
    assert shown["development"]["sharp"]["demosaic"] == "ahd"
    assert name in sdd_in_process("show", shards, name).stdout
    assert "has no pair 'missing'" in sdd_in_process("show", shards, "missing", check=False).stderr
