"""In and out with the real commands: a foreign data set taken in, aligned anew, given out; killed on the way."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.shards.reader import ShardReader
from tests.support.command_line import kill_runs, sdd, sdd_in_process
from tests.support.small_build import content
from tests.support.small_dataset import texture

PLAN = (("train", 3), ("val", 1), ("test", 1))


@pytest.fixture(scope="module")
def canon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DPDD's layout with 16 bits: five pairs, the blurred frame of each shifted by two pixels."""
    root = tmp_path_factory.mktemp("foreign") / "dd_dp_dataset_canon"
    number = 100
    for split, count in PLAN:
        for _ in range(count):
            sharp = texture(number, (360, 480)).astype(np.uint16) * 257
            soft = cv2.GaussianBlur(np.roll(sharp, 2, axis=1), (0, 0), 2.5)
            for role, image in (("target", sharp), ("source", soft)):
                path = root / f"{split}_c" / role / f"1P0A{number + (role == 'source'):04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_values(path, image)
            number += 2
    return root


def test_a_foreign_set_walks_in_gets_a_card_and_walks_out_the_same(canon: Path, tmp_path: Path) -> None:
    sdd_in_process("import", canon, "--out", tmp_path / "shards")
    sdd_in_process("verify", tmp_path / "shards")
    sdd_in_process("card", tmp_path / "shards")
    card = (tmp_path / "shards/README.md").read_text()
    assert "imported unchanged from another data set" in card
    assert "Misalignment of the pairs" not in card
    sdd_in_process("export", tmp_path / "shards", "--layout", "dpdd", "--out", tmp_path / "out")
    for split, _ in PLAN:
        for path in sorted((canon / f"{split}_c/source").iterdir()):
            np.testing.assert_array_equal(
                read_image(tmp_path / "out" / f"{split}_c/source" / path.name), read_image(path)
            )
    sdd_in_process("import", tmp_path / "out", "--out", tmp_path / "back")
    with ShardReader(tmp_path / "shards") as before, ShardReader(tmp_path / "back") as after:
        assert after.pair_ids == before.pair_ids
        assert after.index.splits == before.index.splits
        assert after.record("1P0A0101").sharp == before.record("1P0A0101").sharp


def test_a_foreign_set_is_aligned_anew_and_keeps_its_splits(canon: Path, tmp_path: Path) -> None:
    done = sdd_in_process("import", canon, "--manifest", "--out", tmp_path, "--json")
    assert json.loads(done.stdout)["done"] == 5
    (tmp_path / "sdd.toml").write_text('[pack]\nencoding = "srgb16"\n')
    sdd_in_process("align", tmp_path / "ingested.jsonl", "--out", tmp_path)
    sdd_in_process("filter", tmp_path / "aligned.jsonl", "--out", tmp_path)
    sdd_in_process("pack", tmp_path / "filtered.jsonl", "--out", tmp_path / "shards", "--config", tmp_path / "sdd.toml")
    index = read_index(tmp_path / "shards")
    assert {split: len(scenes) for split, scenes in index.splits.items()} == dict(PLAN)
    with ShardReader(tmp_path / "shards") as reader:
        record = reader.record("1P0A0101")
    assert record.alignment is not None
    assert record.alignment.shift_px[0] == pytest.approx(-2.0, abs=0.1)
    assert [index.configs[step.config]["stage"] for step in record.history] == ["import", "align", "filter"]


def test_dpdd_of_the_wild_comes_in_unchanged(real_data: Path, tmp_path: Path) -> None:
    for number in range(3):
        for role, name in (("source", "blur"), ("target", "sharp")):
            path = tmp_path / "set/test_c" / role / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_data / "defocus_pairs" / f"dpdd_{number:02d}_{name}.png", path)
    sdd_in_process("import", tmp_path / "set", "--layout", "dpdd", "--out", tmp_path / "shards")
    with ShardReader(tmp_path / "shards", "test") as reader:
        found = reader.read("2").sharp
    original = cv2.imread(str(real_data / "defocus_pairs/dpdd_02_sharp.png"))
    assert original is not None
    np.testing.assert_array_equal(found, original[..., ::-1])


def test_an_import_and_an_export_killed_at_any_moment_resume_to_the_same_bytes(canon: Path, tmp_path: Path) -> None:
    config = tmp_path / "sdd.toml"
    config.write_text("[pack]\npairs_per_shard = 1\npatch_size = 128\n")
    ways = (
        ("import", canon, "--config", config),
        ("export", tmp_path / "whole-import", "--layout", "sdd", "--patches"),
    )
    for words in ways:
        whole, serial = tmp_path / f"whole-{words[0]}", ["--executor", "serial"]
        started = time.monotonic()
        sdd(*words, "--out", whole, *serial)
        whole_s = time.monotonic() - started
        for seed in range(2):
            killed = tmp_path / f"killed-{words[0]}-{seed}"
            kill_runs([*words, "--out", killed, *serial], whole_s, seed)
            sdd_in_process(*words, "--out", killed, *serial)
            assert content(killed) == content(whole)
