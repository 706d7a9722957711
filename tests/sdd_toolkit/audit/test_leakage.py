from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.audit.leakage import HashedPair, Leak, check_leakage, find_leaks, refuse_leaks
from sdd_toolkit.audit.verify import verify_shards as verify
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.cards.stage import CARD_NAME
from sdd_toolkit.cards.stage import write_card as card
from sdd_toolkit.errors import LeakageError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.records import FileRef
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.storage.files import sha256_of
from tests.support.command_line import sdd_in_process
from tests.support.small_dataset import SIZE, filtered_manifest

CONFIG = PackConfig(patch_size=128, split=SplitConfig(train=("scene-0000", "scene-0001"), test=("scene-0002",)))


def seen(name: str, scene: str, split: str, look: int, files: tuple[str, str] = ("", "")) -> HashedPair:
    return HashedPair(name, scene, split, f"{look:016x}", files)


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of one pair; that of the test split is the first one of the training split, mirrored."""
    folder = tmp_path_factory.mktemp("leaking") / "set"
    path = filtered_manifest(folder, pairs=1)
    source = read_manifest(path)
    records = list(source.records)
    for number, seed in ((0, 1), (1, 2), (2, 1)):
        frame = np.random.default_rng(seed).random((12, 16, 3)).astype(np.float32)
        frame = np.clip(255 * cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
        file = folder / "raw" / records[number].sharp.path
        cv2.imwrite(str(file), frame[:, ::-1] if number == 2 else frame)
        ref = FileRef(file.name, file.stat().st_size, sha256_of(file))
        records[number] = replace(records[number], sharp=ref)
    write_manifest(path, replace(source, records=tuple(records)))
    pack_dataset(path, folder / "shards", CONFIG)
    return folder


def test_a_mirrored_scene_in_another_split_is_found(leaking: Path) -> None:
    found = check_leakage(leaking / "shards")
    assert (found.compared, found.unknown) == (3, 0)
    (leak,) = found.leaks
    assert leak.pairs == ("scene-0000-00", "scene-0002-00")
    assert leak.splits == ("train", "test")
    assert leak.distance is not None
    assert leak.distance <= 4


def test_verify_warns_of_it_and_passes(leaking: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        verify(leaking / "shards")
    assert "scene-0000 (train, scene-0000-00) and scene-0002 (test, scene-0002-00) look alike" in caplog.text


def test_the_card_tells_of_leakage_or_of_none(leaking: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(leaking, tmp_path / "set"))
    card(folder / "shards", CardConfig())
    assert "| scene-0000 | train | scene-0002 | test |" in (folder / "shards" / CARD_NAME).read_text()
    moved = CONFIG.model_copy(update={"split": SplitConfig(train=("scene-0000", "scene-0002"), test=("scene-0001",))})
    pack_dataset(folder / "filtered.jsonl", folder / "shards", moved)
    card(folder / "shards", CardConfig())
    text = (folder / "shards" / CARD_NAME).read_text()
    assert "None found: no source file is in two splits, and no sharp frame's perceptual hash comes within 8 of" in text


def test_the_command_lists_leaks_and_its_exit_code_tells(leaking: Path) -> None:
    told = sdd_in_process("leakage", leaking / "shards", "--json", check=False)
    assert told.returncode == 1
    leaks = json.loads(told.stdout)["leaks"]
    assert [leak["scenes"] for leak in leaks] == [["scene-0000", "scene-0002"]]
    assert "scene-0000 (train" in sdd_in_process("leakage", leaking / "shards", check=False).stdout
    (leaking / "one.toml").write_text('[pack]\npatch_size = 128\n[pack.split]\ntest = ["scene-0000", "scene-0002"]\n')
    sdd_in_process("split", leaking / "shards", "--out", leaking / "anew", "--config", leaking / "one.toml")
    assert sdd_in_process("leakage", leaking / "anew").stdout == "leakage: 0 found among 3 pairs (8 bits)\n"


def test_split_merge_and_subset_are_commands(leaking: Path, tmp_path: Path) -> None:
    shards = leaking / "shards"
    shares = ("--train", 0.4, "--val", 0.3, "--test", 0.3, "--seed", 5)
    told = sdd_in_process("split", shards, *shares, "--out", tmp_path / "thirds")
    assert told.stdout.startswith("split: 3 done (3 copied), 0 unchanged, 0 rejected of 3")
    assert [len(scenes) for scenes in read_index(tmp_path / "thirds").splits.values()] == [1, 1, 1]
    told = sdd_in_process("subset", shards, "--where", "split == 'train'", "--out", tmp_path / "some", "--json")
    assert json.loads(told.stdout)["rejected"] == {"not_selected": 1}
    told = sdd_in_process(
        "merge", shards, tmp_path / "some", "--prefix", "a-", "--prefix", "b-", "--out", tmp_path / "both"
    )
    assert "merge: 5 done (5 copied)" in told.stdout
    refused = sdd_in_process("subset", shards, "--where", "blur_gian > 2", "--out", tmp_path / "none", check=False)
    assert refused.returncode == 2
    assert "did you mean blur_gain" in refused.stderr


def test_a_file_in_two_splits_is_found_whatever_it_looks_like() -> None:
    found = find_leaks([seen("a", "x", "train", 1, ("f", "g")), seen("b", "y", "test", 2**63 - 1, ("h", "f"))])
    assert found.leaks == (Leak(("a", "b"), ("x", "y"), ("train", "test"), None),)


def test_within_a_split_nothing_leaks() -> None:
    assert find_leaks([seen("a", "x", "train", 5, ("f", "g")), seen("b", "y", "train", 5, ("f", "g"))]).leaks == ()


def test_of_two_scenes_only_the_closest_pairs_are_told() -> None:
    many = [seen(f"a{number}", "x", "train", 0b1111 + (number << 4)) for number in range(8)]
    found = find_leaks([*many, seen("b", "y", "val", 0b1111), seen("c", "z", "test", 0xFFFF_FFFF_0000)])
    assert found.leaks == (Leak(("a0", "b"), ("x", "y"), ("train", "val"), 0),)


def test_what_looks_all_the_same_is_told_some_times_not_all() -> None:
    train = [seen(f"a{number}", f"x{number}", "train", 7) for number in range(1000)]
    test = [seen(f"b{number}", f"y{number}", "test", 7) for number in range(1000)]
    found = find_leaks([*train, *test])
    assert found.compared == 2000
    assert 1 <= len(found.leaks) <= 256
    one_file = [
        replace(each, files=("f", each.id), perceptual_hash=f"{number + 1:016x}") for number, each in enumerate(train)
    ]
    found = find_leaks([*one_file, replace(test[0], files=("f", "g"), perceptual_hash="f" * 16)])
    assert 1 <= len(found.leaks) <= 16


def test_a_pair_without_a_hash_is_compared_by_its_files() -> None:
    pairs = [
        replace(seen("a", "x", "train", 0, ("f", "g")), perceptual_hash=None),
        seen("b", "y", "test", 9, ("f", "i")),
    ]
    found = find_leaks(pairs)
    assert (found.compared, found.unknown, len(found.leaks)) == (1, 1, 1)


def test_a_split_that_tears_a_scene_apart_is_refused_on_request(leaking: Path) -> None:
    with pytest.raises(LeakageError, match=r"tears scenes apart: scene-0000 \(train, .*look alike") as refused:
        verify(leaking / "shards", pixels=False, refuse_leakage=True)
    assert refused.value.exit_code == 1
    refuse_leaks(find_leaks([]))
