"""Training crops: their positions, their content, and their reproducibility."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jdrl.config import TrainConfig
from jdrl.data.aligned_crops import align_pair, image_to_tensor, read_crop
from jdrl.data.batch import Batch, rotate_flow_quarter, rotate_quarter
from jdrl.data.crops import CropDataset, batches_of_rank, build_loader, collate_crops, load_batch
from jdrl.data.training_data import choose_held_out, split_patches
from jdrl.flow.warping import warp
from sdd_toolkit.errors import IntegrityError
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import Patch
from tests.support.planted_shards import MakeShards


def test_a_sample_depends_on_nothing_but_the_seed_and_its_number(shards: Path, tiny: TrainConfig) -> None:
    patches = ShardReader(shards, split="train").patches
    first, second = (CropDataset(shards, patches, tiny, length=12) for _ in range(2))
    backwards = [second[number] for number in reversed(range(6))]
    for number in range(6):
        assert torch.equal(first[number].blur, backwards[5 - number].blur)
    other = CropDataset(shards, patches, tiny.model_copy(update={"seed": 1}), length=12)
    assert not torch.equal(first[0].blur, other[0].blur)


def test_a_loader_that_starts_late_goes_on_where_the_first_one_would_be(shards: Path, tiny: TrainConfig) -> None:
    crops = CropDataset(shards, ShardReader(shards, split="train").patches, tiny, length=12)
    late = next(iter(build_loader(crops, 4, tiny, pin_memory=False)))
    assert torch.equal(late.sharp, load_batch(crops, 4, tiny.batch).sharp)


def test_every_pass_visits_every_patch_once(shards: Path, tiny: TrainConfig) -> None:
    patches = ShardReader(shards, split="train").patches
    exact = tiny.model_copy(update={"crop": 64, "augment": False})
    crops = CropDataset(shards, patches, exact, length=100)
    whole = {crops[number].blur.numpy().tobytes() for number in range(len(patches))}
    assert len(whole) == len(patches) == 18


def test_crop_offsets_are_uniform_over_the_patch(shards: Path, tiny: TrainConfig) -> None:
    crops = CropDataset(shards, [Patch("scene-00", 0, 0, 1.0, 1.0)], tiny, length=4000)
    spots = [crops.sample_crop(number) for number in range(4000)]
    offsets = np.array([(spot.top, spot.left) for spot in spots])
    assert sorted({spot.turn for spot in spots}) == list(range(8))
    assert offsets.min() == 0
    assert offsets.max() == 32
    for axis in range(2):
        counts = np.bincount(offsets[:, axis], minlength=33)
        expected = 4000 / 33
        # 32 degrees of freedom: above 62.5 once in a thousand.
        assert np.sum((counts - expected) ** 2) / expected < 62.5


def test_crops_of_256_px_start_anywhere_in_patches_of_512_px(
    make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, size=(512, 512), patch=512)
    patch = Patch("scene-00", 0, 0, 1.0, 1.0)
    crops = CropDataset(folder, [patch], tiny.model_copy(update={"crop": 256}), length=8000)
    spots = [crops.sample_crop(number) for number in range(8000)]
    for offsets in ([spot.top for spot in spots], [spot.left for spot in spots]):
        counts = np.bincount(offsets, minlength=257)
        expected = 8000 / 257
        assert len(counts) == 257
        # 256 degrees of freedom: above 330.5 once in a thousand.
        assert np.sum((counts - expected) ** 2) / expected < 330.5


def test_a_patch_is_cut_elsewhere_in_every_epoch(shards: Path, tiny: TrainConfig) -> None:
    patches = ShardReader(shards, split="train").patches
    crops = CropDataset(shards, patches, tiny, length=40 * len(patches))
    epochs = [[crops.sample_crop(epoch * len(patches) + n) for n in range(len(patches))] for epoch in range(40)]
    # Where patch 0 starts in each epoch, and at which place of it: 33 x 33 offsets, 18 places.
    first = [next((n, s) for n, s in enumerate(spots) if s.pair == "scene-00") for spots in epochs]
    assert len({(spot.top, spot.left) for _, spot in first}) > 30
    assert len({tuple(spot.pair for spot in spots) for spots in epochs}) == 40


def test_two_workers_cut_different_crops(shards: Path, tiny: TrainConfig) -> None:
    crops = CropDataset(shards, ShardReader(shards, split="train").patches, tiny, length=200)
    # A loader gives its workers batches in turn.
    first, second = ({crops.sample_crop(2 * step + n) for step in range(w, 100, 2) for n in range(2)} for w in range(2))
    assert len(first) == len(second) == 100
    assert first.isdisjoint(second)


def test_the_sharp_crop_lands_on_the_blurred_one_without_made_up_borders(shards: Path) -> None:
    with ShardReader(shards, split="train") as reader:
        crop = read_crop(reader, "scene-00", 20, 40, 32)
        pair = reader.read("scene-00")
    # The stored flow is (2, -1): the sharp frame's pixel (x + 2, y - 1) belongs to (x, y).
    expected = image_to_tensor(pair.sharp[19:51, 42:74])
    assert torch.equal(crop.sharp_on_blur, expected)
    assert torch.equal(crop.sharp, image_to_tensor(pair.sharp[20:52, 40:72]))
    assert torch.equal(crop.blur, image_to_tensor(pair.blur[20:52, 40:72]))
    assert crop.valid.min() == 1


def test_the_wide_sharp_frame_reaches_as_far_as_the_stored_flow_and_four_pixels_more(
    make_shards: MakeShards, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, flow=(13, 0))
    with ShardReader(folder, split="train") as reader:
        crop = read_crop(reader, "scene-00", 32, 40, 32)
        sharp = image_to_tensor(reader.read("scene-00").sharp)
    assert crop.margin_px == 24
    assert torch.equal(crop.wide_sharp, sharp[..., 8:88, 16:96])
    assert crop.wide_valid.min() == 1
    assert torch.equal(crop.flow, torch.tensor([13.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 32, 32))
    assert torch.equal(warp(crop.wide_sharp, crop.flow, margin_px=24), crop.sharp_on_blur)


def test_a_margin_beyond_the_photograph_is_known_to_hold_nothing(shards: Path) -> None:
    with ShardReader(shards, split="train") as reader:
        crop = read_crop(reader, "scene-00", 0, 92, 32)
    assert crop.margin_px == 8
    assert crop.wide_valid[0, 0, 8:, :44].min() == 1
    assert crop.wide_valid[..., :8, :].max() == 0
    assert crop.wide_valid[..., 44:].max() == 0


def test_a_displacement_beyond_the_usual_margin_is_followed(make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, flow=(13, 0))
    with ShardReader(folder, split="train") as reader:
        crop = read_crop(reader, "scene-00", 10, 40, 32)
        sharp = reader.read("scene-00").sharp
    assert torch.equal(crop.sharp_on_blur, image_to_tensor(sharp[10:42, 53:85]))


def test_pixels_whose_partner_lies_outside_the_frame_are_not_valid(shards: Path) -> None:
    with ShardReader(shards, split="train") as reader:
        valid = align_pair(reader.read_window("scene-00", 0, 0, 96, 128)).valid[0, 0]
    assert valid[0].sum() == 0
    assert valid[:, 126:].sum() == 0
    assert valid[1:, :126].min() == 1


def test_eight_turns_are_eight_different_pictures_and_keep_every_pixel() -> None:
    image = torch.arange(2 * 3 * 3, dtype=torch.float32).view(1, 2, 3, 3)
    pictures = [rotate_quarter(image, turn) for turn in range(8)]
    assert len({picture.numpy().tobytes() for picture in pictures}) == 8
    assert torch.equal(pictures[0], image)
    assert all(torch.equal(picture.sum((2, 3)), image.sum((2, 3))) for picture in pictures)


def test_all_images_of_a_sample_are_turned_alike(make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, radius_px=0.0)
    crops = CropDataset(folder, ShardReader(folder, split="train").patches, tiny, length=8)
    for number in range(8):
        sample = crops[number]
        assert torch.equal(sample.blur, sample.sharp_on_blur)
        assert torch.equal(sample.blur, sample.sharp)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_flow_moves_a_turned_image_as_the_flow_moves_the_image(turn: int) -> None:
    torch.manual_seed(turn)
    image, flow = torch.rand(2, 3, 12, 12), torch.randint(-3, 4, (2, 2, 12, 12)).float()
    moved = warp(rotate_quarter(image, turn), rotate_flow_quarter(flow, turn))
    assert torch.equal(moved, rotate_quarter(warp(image, flow), turn))


def test_a_turned_batch_still_fits_together(make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1}, flow=(3, -2))
    with ShardReader(folder, split="train") as reader:
        crop = read_crop(reader, "scene-00", 32, 40, 32)
    for turn in range(8):
        batch = crop.rotate_quarter(turn)
        assert torch.equal(warp(batch.wide_sharp, batch.flow, margin_px=batch.margin_px), batch.sharp_on_blur)
        assert torch.equal(batch.sharp, rotate_quarter(crop.sharp, turn))


def test_batches_of_unequal_margins_join_around_the_same_window() -> None:
    def sample(margin: int) -> Batch:
        side = 4 + 2 * margin
        plain, one = torch.rand(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
        return Batch(
            plain, torch.rand(1, 3, side, side), plain, one, torch.zeros(1, 2, 4, 4), torch.ones(1, 1, side, side)
        )

    samples = sample(8), sample(16)
    joined = collate_crops(samples)
    assert joined.margin_px == 16
    assert torch.equal(joined.sharp, torch.cat([samples[0].sharp, samples[1].sharp]))
    assert joined.wide_valid[0].sum() == 20**2
    assert joined.wide_valid[1].sum() == 36**2


def test_held_out_scenes_share_no_patch_with_the_others(shards: Path, tiny: TrainConfig) -> None:
    with ShardReader(shards, split="train") as reader:
        train, validation = split_patches(reader, tiny)
    assert len({patch.pair for patch in validation}) == 1
    assert {patch.pair for patch in train}.isdisjoint(patch.pair for patch in validation)
    assert len(train) + len(validation) == 18


def test_a_held_out_scene_stays_held_out_when_others_are_added() -> None:
    names = [f"scene-{number}" for number in range(40)]
    few, many = choose_held_out(names[:20], 0.25), choose_held_out(names, 0.25)
    assert 1 <= len(few) <= 10
    assert few == many & set(names[:20])
    assert len(choose_held_out(["one", "two"], 0.9)) == 1
    assert choose_held_out(["only"], 0.5) == frozenset()


def test_sixteen_bits_and_eight_bits_both_span_zero_to_one() -> None:
    assert image_to_tensor(np.full((1, 1, 3), 255, np.uint8)).max() == 1
    assert image_to_tensor(np.full((1, 1, 3), 65535, np.uint16)).max() == 1
    assert image_to_tensor(np.full((1, 1, 3), 32768, np.uint16))[0, 0, 0, 0] == pytest.approx(32768 / 65535)


def test_a_damaged_shard_is_named_by_the_sample_that_needs_it(
    make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path, scenes={"train": 1})
    crops = CropDataset(folder, ShardReader(folder, split="train").patches, tiny, length=2)
    with (folder / "train-0000.h5").open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(IntegrityError, match=r"train-0000\.h5"):
        crops[0]


def test_batches_join_in_order(shards: Path, tiny: TrainConfig) -> None:
    crops = CropDataset(shards, ShardReader(shards, split="train").patches, tiny, length=4)
    joined = collate_crops([crops[0], crops[1]])
    assert joined.blur.shape == (2, 3, 32, 32)
    assert torch.equal(joined.valid[1:], crops[1].valid)


def test_processes_and_parts_share_every_batch_without_gap_or_overlap(tiny: TrainConfig) -> None:
    config = tiny.model_copy(update={"batch": 12, "steps": 5, "accumulate": 2})
    parts = [list(batches_of_rank(3, config, rank, 3)) for rank in range(3)]
    assert [len(mine) for mine in parts] == [4, 4, 4]
    for step in range(2):
        taken = [number for mine in parts for part in mine[2 * step : 2 * step + 2] for number in part]
        assert sorted(taken) == list(range(12 * (3 + step), 12 * (4 + step)))


def test_a_loader_of_one_of_two_processes_answers_with_its_half(shards: Path, tiny: TrainConfig) -> None:
    crops = CropDataset(shards, ShardReader(shards, split="train").patches, tiny, length=12)
    whole = load_batch(crops, 4, 2)
    for rank in range(2):
        half = next(iter(build_loader(crops, 4, tiny, pin_memory=False, rank=rank, ranks=2)))
        assert torch.equal(half.blur, whole.blur[rank : rank + 1])
