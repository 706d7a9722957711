"""Crops: where they are cut, what they hold, and that they can be made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from jdrl.config import TrainConfig
from jdrl.data import (
    Crops,
    aligned,
    as_tensor,
    batch_of,
    collate,
    cut,
    held_out,
    loader,
    shares,
    training_patches,
    turned,
)
from sdd_toolkit.errors import IntegrityError
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import Patch


def test_a_sample_depends_on_nothing_but_the_seed_and_its_number(shards: Path, tiny: TrainConfig) -> None:
    patches = ShardReader(shards, split="train").patches
    first, second = (Crops(shards, patches, tiny, length=12) for _ in range(2))
    backwards = [second[number] for number in reversed(range(6))]
    for number in range(6):
        assert torch.equal(first[number].blur, backwards[5 - number].blur)
    other = Crops(shards, patches, tiny.model_copy(update={"seed": 1}), length=12)
    assert not torch.equal(first[0].blur, other[0].blur)


def test_a_loader_that_starts_late_goes_on_where_the_first_one_would_be(shards: Path, tiny: TrainConfig) -> None:
    crops = Crops(shards, ShardReader(shards, split="train").patches, tiny, length=12)
    late = next(iter(loader(crops, 4, tiny, pin_memory=False)))
    assert torch.equal(late.sharp, batch_of(crops, 4, tiny.batch).sharp)


def test_every_pass_visits_every_patch_once(shards: Path, tiny: TrainConfig) -> None:
    patches = ShardReader(shards, split="train").patches
    exact = tiny.model_copy(update={"crop": 64, "augment": False})
    crops = Crops(shards, patches, exact, length=100)
    whole = {crops[number].blur.numpy().tobytes() for number in range(len(patches))}
    assert len(whole) == len(patches) == 18


def test_crop_offsets_are_uniform_over_the_patch(shards: Path, tiny: TrainConfig) -> None:
    crops = Crops(shards, [Patch("scene-00", 0, 0, 1.0, 1.0)], tiny, length=4000)
    spots = [crops.spot(number) for number in range(4000)]
    offsets = np.array([(spot.top, spot.left) for spot in spots])
    assert sorted({spot.turn for spot in spots}) == list(range(8))
    assert offsets.min() == 0
    assert offsets.max() == 32
    for axis in range(2):
        counts = np.bincount(offsets[:, axis], minlength=33)
        expected = 4000 / 33
        # 32 degrees of freedom: above 62.5 once in a thousand.
        assert np.sum((counts - expected) ** 2) / expected < 62.5


def test_the_sharp_crop_lands_on_the_blurred_one_without_made_up_borders(shards: Path) -> None:
    with ShardReader(shards, split="train") as reader:
        crop = cut(reader, "scene-00", 20, 40, 32)
        pair = reader.read("scene-00")
    # The stored flow is (2, -1): the sharp frame's pixel (x + 2, y - 1) belongs to (x, y).
    expected = as_tensor(pair.sharp[19:51, 42:74])
    assert torch.equal(crop.sharp_on_blur, expected)
    assert torch.equal(crop.sharp, as_tensor(pair.sharp[20:52, 40:72]))
    assert torch.equal(crop.blur, as_tensor(pair.blur[20:52, 40:72]))
    assert crop.valid.min() == 1


def test_a_displacement_beyond_the_usual_margin_is_followed(make_shards: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, flow=(13, 0))
    with ShardReader(folder, split="train") as reader:
        crop = cut(reader, "scene-00", 10, 40, 32)
        sharp = reader.read("scene-00").sharp
    assert torch.equal(crop.sharp_on_blur, as_tensor(sharp[10:42, 53:85]))


def test_pixels_whose_partner_lies_outside_the_frame_are_not_valid(shards: Path) -> None:
    with ShardReader(shards, split="train") as reader:
        valid = aligned(reader.read_window("scene-00", 0, 0, 96, 128)).valid[0, 0]
    assert valid[0].sum() == 0
    assert valid[:, 126:].sum() == 0
    assert valid[1:, :126].min() == 1


def test_eight_turns_are_eight_different_pictures_and_keep_every_pixel() -> None:
    image = torch.arange(2 * 3 * 3, dtype=torch.float32).view(1, 2, 3, 3)
    pictures = [turned(image, turn) for turn in range(8)]
    assert len({picture.numpy().tobytes() for picture in pictures}) == 8
    assert torch.equal(pictures[0], image)
    assert all(torch.equal(picture.sum((2, 3)), image.sum((2, 3))) for picture in pictures)


def test_all_images_of_a_sample_are_turned_alike(
    make_shards: Callable[..., Path], tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, radius_px=0.0)
    crops = Crops(folder, ShardReader(folder, split="train").patches, tiny, length=8)
    for number in range(8):
        sample = crops[number]
        assert torch.equal(sample.blur, sample.sharp_on_blur)
        assert torch.equal(sample.blur, sample.sharp)


def test_held_out_scenes_share_no_patch_with_the_others(shards: Path, tiny: TrainConfig) -> None:
    with ShardReader(shards, split="train") as reader:
        train, validation = training_patches(reader, tiny)
    assert len({patch.pair for patch in validation}) == 1
    assert {patch.pair for patch in train}.isdisjoint(patch.pair for patch in validation)
    assert len(train) + len(validation) == 18


def test_a_held_out_scene_stays_held_out_when_others_are_added() -> None:
    names = [f"scene-{number}" for number in range(40)]
    few, many = held_out(names[:20], 0.25), held_out(names, 0.25)
    assert 1 <= len(few) <= 10
    assert few == many & set(names[:20])
    assert len(held_out(["one", "two"], 0.9)) == 1
    assert held_out(["only"], 0.5) == frozenset()


def test_sixteen_bits_and_eight_bits_both_span_zero_to_one() -> None:
    assert as_tensor(np.full((1, 1, 3), 255, np.uint8)).max() == 1
    assert as_tensor(np.full((1, 1, 3), 65535, np.uint16)).max() == 1
    assert as_tensor(np.full((1, 1, 3), 32768, np.uint16))[0, 0, 0, 0] == pytest.approx(32768 / 65535)


def test_a_damaged_shard_is_named_by_the_sample_that_needs_it(
    make_shards: Callable[..., Path], tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1})
    crops = Crops(folder, ShardReader(folder, split="train").patches, tiny, length=2)
    with (folder / "train-0000.h5").open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(IntegrityError, match=r"train-0000\.h5"):
        crops[0]


def test_batches_join_in_order(shards: Path, tiny: TrainConfig) -> None:
    crops = Crops(shards, ShardReader(shards, split="train").patches, tiny, length=4)
    joined = collate([crops[0], crops[1]])
    assert joined.blur.shape == (2, 3, 32, 32)
    assert torch.equal(joined.valid[1:], crops[1].valid)


def test_processes_and_parts_share_every_batch_without_gap_or_overlap(tiny: TrainConfig) -> None:
    config = tiny.model_copy(update={"batch": 12, "steps": 5, "accumulate": 2})
    parts = [list(shares(3, config, rank, 3)) for rank in range(3)]
    assert [len(mine) for mine in parts] == [4, 4, 4]
    for step in range(2):
        taken = [number for mine in parts for part in mine[2 * step : 2 * step + 2] for number in part]
        assert sorted(taken) == list(range(12 * (3 + step), 12 * (4 + step)))


def test_a_loader_of_one_of_two_processes_answers_with_its_half(shards: Path, tiny: TrainConfig) -> None:
    crops = Crops(shards, ShardReader(shards, split="train").patches, tiny, length=12)
    whole = batch_of(crops, 4, 2)
    for rank in range(2):
        half = next(iter(loader(crops, 4, tiny, pin_memory=False, rank=rank, ranks=2)))
        assert torch.equal(half.blur, whole.blur[rank : rank + 1])
