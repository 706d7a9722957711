"""Sets made of sets: what goes where, and that nothing of a pair but its place, its id and its history changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards as verify
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.cards.stage import CARD_NAME
from sdd_toolkit.cards.stage import write_card as card
from sdd_toolkit.errors import ConfigError, InputError, IntegrityError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.patches import patches_of
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.rearranging.operations import merge_datasets, split_dataset, subset_dataset
from sdd_toolkit.records import Quality, Reason
from sdd_toolkit.shards.index import FailedPair, read_index, write_index
from sdd_toolkit.shards.reader import ShardReader
from tests.support.small_dataset import alignment, contents, filtered_manifest

CONFIG = PackConfig(patch_size=128, pairs_per_shard=2)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes with two pairs, the second of each not measured and 0.6 px off; packed into `shards`."""
    folder = tmp_path_factory.mktemp("original") / "set"
    path = filtered_manifest(folder)
    source = read_manifest(path)
    good = Quality(3.0, 0.9, 0.0, 0.5, 0.1, 0.0, 0.0, 0.9, 0.9, 0.8)
    records = [
        replace(record, quality=good)
        if record.id.endswith("00")
        else replace(record, alignment=replace(alignment(), residual_px=0.6))
        for record in source.records
    ]
    write_manifest(path, replace(source, records=tuple(records)))
    pack_dataset(path, folder / "shards", CONFIG)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "set"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another session with the same names for other pictures."""
    folder = tmp_path_factory.mktemp("other") / "set"
    path = filtered_manifest(folder, scenes=2, pairs=1)
    pack_dataset(
        path, folder / "shards", PackConfig(**{**CONFIG.model_dump(), "split": {"val": ["scene-0001"]}, "name": "b"})
    )
    return folder / "shards"


def assert_same_pixels(first: Path, second: Path, names: dict[str, str]) -> None:
    with ShardReader(first) as mine, ShardReader(second) as theirs:
        for old, new in names.items():
            before, after = mine.read(old), theirs.read(new)
            for key in ("blur", "sharp", "valid", "flow"):
                np.testing.assert_array_equal(getattr(before, key), getattr(after, key))
            assert (before.box, before.development) == (after.box, after.development)
            assert before.record.history == after.record.history[:-1]


def test_a_subset_holds_the_pairs_that_fulfil_the_condition_and_says_so(original: Path, tmp_path: Path) -> None:
    report = subset_dataset(original / "shards", tmp_path / "good", "blur_gain > 2 and residual_px < 0.5")
    assert (report.total, report.done, report.copied, report.rejected) == (6, 3, 3, {"not_selected": 3})
    verify(tmp_path / "good")
    names = {f"scene-000{number}-00": f"scene-000{number}-00" for number in range(3)}
    assert_same_pixels(original / "shards", tmp_path / "good", names)
    index = read_index(tmp_path / "good")
    assert [pair for shard in index.shards for pair in shard.pairs] == sorted(names)
    assert index.splits == read_index(original / "shards").splits
    assert index.history[0].startswith("subset where blur_gain > 2 and residual_px < 0.5, of defocus-pairs (index ")
    with ShardReader(tmp_path / "good") as reader:
        assert reader.record("scene-0000-00").history[-1].stage == "subset"


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("split == 'test'", 2),
        ("scene in ['scene-0000', 'scene-0002']", 4),
        ("'Pentacon' in camera and lens == '80 mm' and f_number < 4", 6),
        ("sharpness_gain < 1 or not sharpness_gain > 0", 3),
    ],
)
def test_any_column_can_be_asked_for(original: Path, tmp_path: Path, condition: str, count: int) -> None:
    assert subset_dataset(original / "shards", tmp_path / "some", condition).done == count


def test_the_patches_of_a_pair_go_with_it(original: Path, tmp_path: Path) -> None:
    subset_dataset(original / "shards", tmp_path / "some", "split == 'train' and residual_px < 0.5")
    with ShardReader(original / "shards") as before, ShardReader(tmp_path / "some") as after:
        assert after.patches == tuple(patch for patch in before.patches if patch.pair in after.pair_ids)
        assert len(after.patches) > 0


@pytest.mark.parametrize("condition", ["residual_px > 99", "residual < 1", "residual_px"])
def test_a_condition_that_picks_nothing_or_is_none_writes_nothing(
    original: Path, tmp_path: Path, condition: str
) -> None:
    with pytest.raises(InputError):
        subset_dataset(original / "shards", tmp_path / "some", condition)
    assert not (tmp_path / "some").exists()


def test_a_pair_that_changes_its_split_gets_the_patches_of_its_new_one(original: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"split": SplitConfig(test=("scene-0000",), val=("scene-0001",))})
    report = split_dataset(original / "shards", tmp_path / "anew", config, executor="local:2")
    assert (report.total, report.copied) == (6, 6)
    verify(tmp_path / "anew")
    index = read_index(tmp_path / "anew")
    assert index.splits == {"train": ("scene-0002",), "val": ("scene-0001",), "test": ("scene-0000",)}
    with ShardReader(tmp_path / "anew") as reader:
        for name in reader.pair_ids:
            overlap = 0.6 if name.startswith("scene-0002") else 0.0
            expected = patches_of(reader.read(name), 128, overlap)
            assert tuple(patch for patch in reader.patches if patch.pair == name) == expected
    assert_same_pixels(original / "shards", tmp_path / "anew", {name: name for name in reader.pair_ids})


def test_patches_chosen_with_other_settings_are_not_mixed_with_new_ones(original: Path, tmp_path: Path) -> None:
    config = PackConfig(train_overlap=0.5, split=SplitConfig(test=("scene-0000",)))
    with pytest.raises(ConfigError, match=r"train_overlap = 0\.5"):
        split_dataset(original / "shards", tmp_path / "anew", config)


def test_two_sets_with_prefixes_become_one(original: Path, other: Path, tmp_path: Path) -> None:
    report = merge_datasets([original / "shards", other], tmp_path / "both", ["a-", "b-"], 4)
    assert (report.total, report.copied) == (8, 8)
    verify(tmp_path / "both")
    index = read_index(tmp_path / "both")
    assert index.name == "defocus-pairs + b"
    assert index.splits["val"] == ("b-scene-0001",)
    assert_same_pixels(other, tmp_path / "both", {"scene-0000-00": "b-scene-0000-00"})
    with ShardReader(tmp_path / "both") as reader:
        assert reader.record("b-scene-0001-00").scene == "b-scene-0001"
        assert {patch.pair for patch in reader.patches} == set(reader.pair_ids)


def test_ids_that_collide_are_refused(original: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 ids are in more than one of the sets, the first is 'scene-0000-00'") as e:
        same_splits = tmp_path / "same"
        split_dataset(
            other, same_splits, CONFIG.model_copy(update={"split": SplitConfig(train=("scene-0000", "scene-0001"))})
        )
        merge_datasets([original / "shards", same_splits], tmp_path / "both")
    assert "--prefix" in e.value.hint
    assert not (tmp_path / "both").exists()


def test_a_scene_cannot_be_in_two_splits(original: Path, tmp_path: Path) -> None:
    subset_dataset(original / "shards", tmp_path / "first", "residual_px < 0.5")
    subset_dataset(original / "shards", tmp_path / "rest", "residual_px > 0.5")
    assert merge_datasets([tmp_path / "first", tmp_path / "rest"], tmp_path / "whole").done == 6
    config = CONFIG.model_copy(update={"split": SplitConfig(test=("scene-0000", "scene-0002"))})
    split_dataset(tmp_path / "rest", tmp_path / "moved", config)
    with pytest.raises(InputError, match=r"the scene 'scene-0000' is in train of .*first and in test of .*moved"):
        merge_datasets([tmp_path / "first", tmp_path / "moved"], tmp_path / "both")


def test_sets_that_were_packed_differently_are_not_merged_and_the_setting_is_named(
    original: Path, tmp_path: Path
) -> None:
    pack_dataset(original / "filtered.jsonl", tmp_path / "deep", PackConfig(patch_size=128, encoding="srgb16"))
    with pytest.raises(InputError, match=r"encoding = srgb8, .*deep has encoding = srgb16"):
        merge_datasets([original / "shards", tmp_path / "deep"], tmp_path / "both", ["a-", "b-"])


def test_a_merged_set_keeps_the_configurations_of_all_its_parts(folder: Path, other: Path, tmp_path: Path) -> None:
    merge_datasets([folder / "shards", other], tmp_path / "out", ["a-", "b-"])
    parts = [read_index(folder / "shards"), read_index(other)]
    assert parts[0].config != parts[1].config
    assert read_index(tmp_path / "out").configs == parts[0].configs | parts[1].configs


def test_a_merged_set_tells_every_version_of_a_library_that_made_its_parts(
    folder: Path, other: Path, tmp_path: Path
) -> None:
    index = read_index(other)
    old = Path(shutil.copytree(other, tmp_path / "old"))
    write_index(old, replace(index, libraries={**index.libraries, "numpy": "0.1"}))
    merge_datasets([folder / "shards", old], tmp_path / "out", ["a-", "b-"])
    assert read_index(tmp_path / "out").libraries == {
        **index.libraries,
        "numpy": f"{index.libraries['numpy']}, 0.1",
    }


def test_the_parts_of_a_set_merged_hold_the_same_pixels_in_the_same_shards(original: Path, tmp_path: Path) -> None:
    subset_dataset(original / "shards", tmp_path / "first", "residual_px < 0.5")
    subset_dataset(original / "shards", tmp_path / "rest", "residual_px > 0.5")
    merge_datasets([tmp_path / "first", tmp_path / "rest"], tmp_path / "whole", (), 2)
    before, after = read_index(original / "shards"), read_index(tmp_path / "whole")
    assert [shard.pairs for shard in after.shards] == [shard.pairs for shard in before.shards]
    assert [shard.patches for shard in after.shards] == [shard.patches for shard in before.shards]
    verify(tmp_path / "whole")


def test_pairs_that_could_not_be_packed_stay_listed(folder: Path, other: Path, tmp_path: Path) -> None:
    index = read_index(folder / "shards")
    lost = FailedPair("scene-0009-00", Reason.TOO_SMALL, "overlap 8 x 8 px < 256 px")
    write_index(folder / "shards", replace(index, failed=(lost,)))
    split_dataset(folder / "shards", tmp_path / "anew", CONFIG)
    assert read_index(tmp_path / "anew").failed == (lost,)
    merge_datasets([folder / "shards", other], tmp_path / "both", ["a-", "b-"])
    assert read_index(tmp_path / "both").failed == (replace(lost, id="a-scene-0009-00"),)


def test_two_workers_write_the_same_bytes_as_one_and_a_second_run_nothing(original: Path, tmp_path: Path) -> None:
    subset_dataset(original / "shards", tmp_path / "one", "residual_px > 0", 1)
    subset_dataset(original / "shards", tmp_path / "two", "residual_px > 0", 1, executor="local:2")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    report = subset_dataset(original / "shards", tmp_path / "one", "residual_px > 0", 1)
    assert (report.done, report.skipped, report.copied) == (0, 6, 0)


def test_a_set_in_the_way_is_only_replaced_when_told_to(original: Path, tmp_path: Path) -> None:
    subset_dataset(original / "shards", tmp_path / "some", "residual_px < 0.5")
    before = contents(tmp_path / "some")
    with pytest.raises(InputError, match="holds another data set"):
        subset_dataset(original / "shards", tmp_path / "some", "residual_px > 0.5")
    assert contents(tmp_path / "some") == before
    assert subset_dataset(original / "shards", tmp_path / "some", "residual_px > 0.5", overwrite=True).done == 3
    verify(tmp_path / "some")
    with pytest.raises(InputError, match="both input and output"):
        subset_dataset(original / "shards", original / "shards", "residual_px > 0.5", overwrite=True)


def test_a_damaged_shard_is_not_copied_from_and_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "shards" / "test-00000-of-00001.h5"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"test-00000-of-00001\.h5: SHA-256 differs"):
        split_dataset(folder / "shards", tmp_path / "anew", CONFIG)
    assert not (tmp_path / "anew").exists()


def test_the_card_of_a_subset_tells_what_it_is_a_subset_of(original: Path, tmp_path: Path) -> None:
    subset_dataset(original / "shards", tmp_path / "good", "residual_px < 0.5")
    card(tmp_path / "good", CardConfig())
    text = (tmp_path / "good" / CARD_NAME).read_text()
    assert "subset where residual\\_px &lt; 0.5, of defocus-pairs (index " in text
    assert "| subset |" in text


KILLED = """
import sys
from pathlib import Path
from sdd_toolkit.rearranging.operations import subset
if __name__ == "__main__":
    print("ready", flush=True)
    subset(Path(sys.argv[1]), Path(sys.argv[2]), "residual_px > 0", 1)
"""


def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(original: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    subset_dataset(original / "shards", tmp_path / "undisturbed", "residual_px > 0", 1)
    duration = time.monotonic() - started
    for moment in np.random.default_rng(1).uniform(0.0, 1.0, 5):
        command = [sys.executable, "-c", KILLED, str(original / "shards"), str(tmp_path / "killed")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(moment * duration)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    subset_dataset(original / "shards", tmp_path / "killed", "residual_px > 0", 1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
