from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sdd_toolkit.errors import ConfigError
from sdd_toolkit.packing.splits import SplitConfig, assign_splits, published_splits

SCENES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True)
TEN = [f"scene-{number:04d}" for number in range(10)]


def counts(splits: dict[str, str]) -> dict[str, int]:
    return {split: list(splits.values()).count(split) for split in ("train", "val", "test")}


def test_ten_scenes_are_cut_seven_one_two() -> None:
    assert counts(assign_splits(TEN, SplitConfig())) == {"train": 7, "val": 1, "test": 2}


def test_two_scenes_are_one_to_train_on_and_one_to_test() -> None:
    assert counts(assign_splits(["a", "b"], SplitConfig())) == {"train": 1, "val": 0, "test": 1}


def test_a_single_scene_is_trained_on() -> None:
    assert assign_splits(["only"], SplitConfig()) == {"only": "train"}


@given(SCENES, st.integers(0, 5))
def test_every_scene_is_in_one_split_and_both_train_and_test_have_one(scenes: list[str], seed: int) -> None:
    splits = assign_splits(scenes, SplitConfig(seed=seed))
    assert set(splits) == set(scenes)
    if len(scenes) >= 2:
        assert counts(splits)["train"] >= 1
        assert counts(splits)["test"] >= 1
    assert abs(counts(splits)["train"] - 0.7 * len(scenes)) <= 1


@given(SCENES, st.randoms())
def test_neither_the_order_nor_repetition_of_scenes_matters(scenes: list[str], random: object) -> None:
    shuffled = sorted(scenes + scenes[:3], key=lambda _: random.random())  # type: ignore[attr-defined]
    assert assign_splits(shuffled, SplitConfig()) == assign_splits(scenes, SplitConfig())


def test_another_seed_is_another_shuffle() -> None:
    assert assign_splits(TEN, SplitConfig(seed=1)) != assign_splits(TEN, SplitConfig(seed=2))


def test_a_listed_test_scene_is_the_whole_test_split() -> None:
    splits = assign_splits(TEN, SplitConfig(test=("scene-0003",)))
    assert [scene for scene, split in splits.items() if split == "test"] == ["scene-0003"]
    assert counts(splits) == {"train": 8, "val": 1, "test": 1}


def test_a_listed_scene_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="scene-0033"):
        assign_splits(TEN, SplitConfig(test=("scene-0033",)))


def test_a_listed_scene_whose_pairs_were_all_rejected_is_fine() -> None:
    splits = assign_splits(TEN, SplitConfig(test=("scene-0003", "rejected")), known=[*TEN, "rejected"])
    assert "rejected" not in splits


def test_scenes_outside_three_full_lists_are_refused() -> None:
    config = SplitConfig(train=("scene-0000",), val=("scene-0001",), test=("scene-0002",))
    with pytest.raises(ConfigError, match="scene-0003"):
        assign_splits(TEN, config)


@pytest.mark.parametrize("values", [{"train_fraction": 0.9}, {"train": ("a",), "test": ("a",)}])
def test_contradictory_configurations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SplitConfig.model_validate(values)


def test_the_lists_of_an_import_count_unless_the_section_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert published_splits(tmp_path, SplitConfig(), TEN, given=False) == SplitConfig()
    (tmp_path / "splits.toml").write_text("[pack.split]\n")
    assert published_splits(tmp_path, SplitConfig(), TEN, given=False) == SplitConfig()
    assert caplog.text == ""
    (tmp_path / "splits.toml").write_text(f'[pack.split]\ntrain = ["{TEN[0]}", "gone"]\ntest = ["{TEN[1]}"]\n')
    lists = published_splits(tmp_path, SplitConfig(seed=3), TEN, given=False)
    assert lists == SplitConfig(seed=3, train=(TEN[0],), test=(TEN[1],))
    assert "the splits are those of the imported data set" in caplog.text
    mine = SplitConfig(seed=3)
    assert published_splits(tmp_path, mine, TEN, given=True) is mine
    assert "[pack.split] takes the place of the splits in" in caplog.text


@pytest.mark.parametrize("text", ["[pack", "[pack.split]\ntrain = 3\n", '[pack.split]\ntrain = ["a"]\ntest = ["a"]\n'])
def test_damaged_lists_of_an_import_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"splits\.toml"):
        published_splits(tmp_path, SplitConfig(), TEN, given=False)
