from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError
from sdd_toolkit.layouts.catalogue import survey_folder
from sdd_toolkit.layouts.import_stage import ImportConfig, import_as_manifest, import_dataset
from sdd_toolkit.layouts.split_names import split_of_name
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.records import PairKind
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.storage.targets import sealed
from tests.support import layout_trees
from tests.support.layout_trees import picture


def frames(root: Path, *folders: str, names: tuple[str, ...] = ("1.png", "2.png")) -> Path:
    for folder in folders:
        for name in names:
            picture(root / folder / name)
    return root


def restormer(root: Path) -> Path:
    for split, numbers in (("train", (1, 2, 3)), ("val", (4,)), ("test", (5, 6))):
        names = tuple(f"1P0A{number:04d}.png" for number in numbers)
        frames(root, *(f"{split}/{view}" for view in ("inputC", "inputL", "inputR", "target")), names=names)
    return root


def splits_of(root: Path, blur: str | None = None, sharp: str | None = None) -> dict[str, str | None]:
    _, listing = survey_folder(root, "auto", blur, sharp)
    return {pair.id: pair.split for pair in listing.pairs}


def test_dpdd_of_restormer_is_known_by_name_and_keeps_its_splits(tmp_path: Path) -> None:
    layout, listing = survey_folder(restormer(tmp_path), "auto")
    assert layout == "restormer"
    assert [(pair.blur, pair.sharp, pair.split, pair.kind) for pair in listing.pairs][3] == (
        "val/inputC/1P0A0004.png", "val/target/1P0A0004.png", "val", PairKind.APERTURE,
    )  # fmt: skip
    assert [pair.split for pair in listing.pairs] == [*["train"] * 3, "val", *["test"] * 2]
    assert {entry.path.split("/")[1] for entry in listing.unpaired} == {"inputL", "inputR"}
    assert all(entry.detail.startswith("a dual-pixel view") for entry in listing.unpaired)


@pytest.mark.parametrize("blur", ["input", "LQ", "lq", "blur", "input_crops"])
@pytest.mark.parametrize("sharp", ["target", "GT", "sharp"])
def test_every_blurred_folder_goes_with_every_sharp_one(tmp_path: Path, blur: str, sharp: str) -> None:
    root = frames(tmp_path / "set", *(f"{split}/{role}" for split in ("train", "test") for role in (blur, sharp)))
    assert splits_of(root) == {"test-1": "test", "test-2": "test", "train-1": "train", "train-2": "train"}
    root = frames(tmp_path / "flat", blur, sharp)
    assert splits_of(root) == {"1": None, "2": None}
    root = frames(tmp_path / "validation", blur, sharp)
    assert splits_of(root) == {"1": "val", "2": "val"}


def test_splits_may_lie_below_the_roles_and_scenes_in_subfolders(tmp_path: Path) -> None:
    frames(tmp_path, *(f"{role}/{below}" for role in ("input", "target") for below in ("train/garden", "test")))
    _, listing = survey_folder(tmp_path, "auto")
    assert [(pair.id, pair.scene, pair.split) for pair in listing.pairs] == [
        ("test-1", "test-1", "test"),
        ("test-2", "test-2", "test"),
        ("train-garden-1", "garden", "train"),
        ("train-garden-2", "garden", "train"),
    ]


@pytest.mark.parametrize(
    ("folder", "split"),
    [("train", "train"), ("Training", "train"), ("valid", "val"), ("testing", "test"), ("eval", "test")],
)
def test_the_split_in_any_given_path_is_the_split(tmp_path: Path, folder: str, split: str) -> None:
    root = frames(tmp_path / "a", f"{folder}/soft", f"{folder}/crisp")
    assert set(splits_of(root, f"{folder}/soft", f"{folder}/crisp").values()) == {split}
    assert set(splits_of(root / folder, "soft", "crisp").values()) == {split}
    root = frames(tmp_path / "b", f"{folder}/DPDD/x/soft", f"{folder}/DPDD/x/crisp")
    assert set(splits_of(root / folder / "DPDD", "x/soft", "x/crisp").values()) == {split}
    root = frames(tmp_path / "c", f"{folder}/soft", "crisp")
    assert set(splits_of(root, f"{folder}/soft", "crisp").values()) == {split}
    root = frames(tmp_path / "d", "soft", f"{folder}/crisp")
    assert set(splits_of(root, "soft", f"{folder}/crisp").values()) == {split}


def test_the_split_in_a_relative_path_and_in_the_folder_of_the_run_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames(tmp_path / "test", "soft", "crisp")
    monkeypatch.chdir(tmp_path)
    assert set(splits_of(Path("test"), "soft", "crisp").values()) == {"test"}
    monkeypatch.chdir(tmp_path / "test")
    assert set(splits_of(Path("."), "soft", "crisp").values()) == {"test"}


@pytest.mark.parametrize(
    ("own", "folders", "split"),
    [
        ("test/set", ("soft", "crisp"), "test"),
        ("test/train", ("soft", "crisp"), "train"),
        ("test/train/set", ("soft", "crisp"), "train"),
        ("train/set", ("source", "target"), "test"),  # as in RealDOF, a test set
        ("train/val", ("source", "target"), "val"),
        ("train", ("val/input", "val/target"), "val"),
    ],
)
def test_the_spelling_of_the_path_does_not_change_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, folders: tuple[str, str], split: str
) -> None:
    root = frames(tmp_path / own, *folders)
    given = folders if folders[0] == "soft" else ()
    (root / "inner").mkdir()
    spellings = [str(root), f"{root}/", f"{root}/.", f"{root}/inner/..", f"{tmp_path}/./{own}"]
    for folder, relative in ((tmp_path, own), (root.parent, root.name), (root, "."), (root / "inner", "..")):
        monkeypatch.chdir(folder)
        assert set(splits_of(Path(relative), *given).values()) == {split}
    assert [set(splits_of(Path(spelling), *given).values()) for spelling in spellings] == [{split}] * 5


@pytest.mark.parametrize("tree", [layout_trees.lfdof, layout_trees.realbokeh, layout_trees.sdd])
def test_the_split_of_the_path_is_told_in_every_layout(tmp_path: Path, tree: Callable[[Path], Path]) -> None:
    _, listing = survey_folder(tree(tmp_path / "test/whole"), "auto")
    assert listing.warnings == ()
    (part,) = (path for path in (tmp_path / "test/whole").iterdir() if split_of_name(path.name) == "train")
    part.rename(tmp_path / "test/part")
    _, listing = survey_folder(tmp_path / "test/part", "auto")
    assert {pair.split for pair in listing.pairs} == {"test"}
    assert listing.warnings == (
        f"{len(listing.pairs)} pairs are in the split 'test', which the path {tmp_path}/test/part names; "
        "[pack.split] may list scenes anew",
    )


@pytest.mark.parametrize("name", ["contest", "latest", "test1", "trains", "value", "tests-of-mine"])
def test_a_name_that_only_holds_the_word_names_no_split(tmp_path: Path, name: str) -> None:
    assert set(splits_of(frames(tmp_path / name, "soft", "crisp"), "soft", "crisp").values()) == {None}


def test_folders_of_two_splits_are_no_pairs(tmp_path: Path) -> None:
    root = frames(tmp_path, "test/inputC", "train/target")
    with pytest.raises(InputError, match="test/inputC names the split test and train/target the split train"):
        survey_folder(root, "auto", "test/inputC", "train/target")


def test_single_splits_of_other_layouts_are_known_by_their_folder(tmp_path: Path) -> None:
    frames(tmp_path / "LFDOF/test_data", "input/IMG_1", "ground_truth", names=("IMG_1.png",))
    layout, listing = survey_folder(tmp_path / "LFDOF/test_data", "auto")
    assert (layout, [pair.split for pair in listing.pairs]) == ("lfdof", ["test"])


def test_a_list_of_scenes_counts_more_than_the_split_of_the_data_set_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = restormer(tmp_path / "DPDD")
    config = PackConfig(patch_size=16, split=SplitConfig(train=("1P0A0001", "1P0A0005")))
    import_dataset(root, tmp_path / "shards", config)
    splits = read_index(tmp_path / "shards").splits
    assert splits == {
        "train": ("1P0A0001", "1P0A0002", "1P0A0003", "1P0A0005"),
        "val": ("1P0A0004",),
        "test": ("1P0A0006",),
    }
    assert "[pack.split] moves 1 scenes out of the split of the data set, 1P0A0005 from test to train" in caplog.text
    fractions = PackConfig(patch_size=16, split=SplitConfig(train_fraction=0.0, val_fraction=0.0, test_fraction=1.0))
    import_dataset(root, tmp_path / "as-it-is", fractions)
    assert {split: len(scenes) for split, scenes in read_index(tmp_path / "as-it-is").splits.items()} == {
        "train": 3, "val": 1, "test": 2,
    }  # fmt: skip


def test_the_split_of_the_path_is_told_and_kept_by_both_routes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = frames(tmp_path / "test/DPDD", "soft", "crisp")
    import_dataset(root, tmp_path / "shards", PackConfig(patch_size=16), ImportConfig(blur="soft", sharp="crisp"))
    assert read_index(tmp_path / "shards").splits == {"train": (), "val": (), "test": ("1", "2")}
    assert "2 pairs are in the split 'test', which the path" in caplog.text
    import_as_manifest(root, tmp_path / "manifest", ImportConfig(blur="soft", sharp="crisp"))
    lists = tmp_path / "manifest/splits.toml"
    assert lists.read_text() == sealed('[pack.split]\ntest = ["1","2"]\n', ".toml")
    frames(root, "soft", "crisp", names=("3.png",))
    import_as_manifest(root, tmp_path / "manifest", ImportConfig(blur="soft", sharp="crisp"))
    assert tomllib.loads(lists.read_text()) == {"pack": {"split": {"test": ["1", "2", "3"]}}}
    edited = lists.read_text().replace('"3"', '"4"')
    lists.write_text(edited)
    with pytest.raises(InputError, match=r"splits\.toml was not written by sdd, or edited since"):
        import_as_manifest(root, tmp_path / "manifest", ImportConfig(blur="soft", sharp="crisp"))
    assert lists.read_text() == edited


def test_frames_left_out_by_content_are_told_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for number in range(1001, 1009, 2):
        picture(tmp_path / f"set/test_c/source/1P0A{number}.png")
        picture(tmp_path / f"set/test_c/target/1P0A{number + 1}.png")
    import_dataset(tmp_path / "set", tmp_path / "whole", PackConfig(patch_size=16))
    assert not caplog.records
    (tmp_path / "set/test_c/source/1P0A1001.png").unlink()
    picture(tmp_path / "set/train_c/source/1.png")
    picture(tmp_path / "set/train_c/target/2.png")
    report = import_dataset(tmp_path / "set", tmp_path / "lost", PackConfig(patch_size=16))
    assert (report.done, report.rejected) == (1, {"no_partner": 7})
    assert "test_c/source and test_c/target: the names do not tell the partners; 0 pairs" in caplog.text
