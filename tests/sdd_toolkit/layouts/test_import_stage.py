from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sdd_toolkit.audit import verify
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.cards.stage import CARD_NAME
from sdd_toolkit.cards.stage import write_card as card
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.colour import ImageColour, read_colour
from sdd_toolkit.formats.icc import encode_icc
from sdd_toolkit.frames.writing import write_image, write_values
from sdd_toolkit.imaging.colour_profile import SRGB_CURVE, ColourProfile, colorants_of, encode_light
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.layouts.export_stage import export_dataset
from sdd_toolkit.layouts.import_stage import MANIFEST, ImportConfig, import_as_manifest, import_dataset
from sdd_toolkit.layouts.shard_tasks import ImportedFrames, plan_import
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.pipeline.manifest import read_manifest
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.building import build_shard
from sdd_toolkit.shards.index import FailedPair, read_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of
from tests.support import layout_trees
from tests.support.small_dataset import contents

CONFIG = PackConfig(patch_size=16, pairs_per_shard=2)


def test_dpdd_of_16_bits_comes_in_unchanged_in_its_own_splits(tmp_path: Path) -> None:
    root = layout_trees.dpdd(tmp_path / "canon")
    report = import_dataset(root, tmp_path / "shards", CONFIG)
    assert (report.done, report.rejected) == (6, {"unsupported": 12})
    with ShardReader(tmp_path / "shards", "val") as reader:
        assert reader.encoding is Encoding.SRGB16
        assert reader.pair_ids == ("1P0A0031", "1P0A0033")
        pair = reader.read("1P0A0031")
    np.testing.assert_array_equal(pair.blur, layout_trees.picture(root / "val_c/source/1P0A0031.png", dtype=np.uint16))
    np.testing.assert_array_equal(pair.sharp, layout_trees.picture(root / "val_c/target/1P0A0030.png", dtype=np.uint16))
    assert pair.valid.all()
    assert not pair.flow.any()
    assert pair.box == (0, 0, 18, 13)
    assert pair.record.blur.sha256 == sha256_of(root / "val_c/source/1P0A0031.png")
    assert [step.stage for step in pair.record.history] == ["import"]
    verify.verify_shards(tmp_path / "shards")


@pytest.mark.parametrize("tree", [layout_trees.sdd, layout_trees.realdof, layout_trees.lfdof, layout_trees.realbokeh])
def test_every_layout_makes_shards_that_verify(tmp_path: Path, tree: object) -> None:
    import_dataset(tree(tmp_path / "set"), tmp_path / "shards", CONFIG)  # type: ignore[operator]
    verify.verify_shards(tmp_path / "shards")
    index = read_index(tmp_path / "shards")
    assert index.name == "set"
    scenes = [scene for members in index.splits.values() for scene in members]
    assert len(scenes) == len(set(scenes))


def test_the_f_number_of_realbokeh_is_in_the_record(tmp_path: Path) -> None:
    import_dataset(layout_trees.realbokeh(tmp_path / "set"), tmp_path / "shards", CONFIG)
    with ShardReader(tmp_path / "shards") as reader:
        assert reader.record("train-1_f5.6").blur_meta.exposure.f_number == 5.6


def test_what_cannot_be_taken_is_listed_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    root = layout_trees.sdd(tmp_path / "set", ("train",))
    for role in ("blur", "gt"):
        for name in ("cut", "torn", "clear", "half", "deep"):
            layout_trees.picture(root / "train" / role / f"{name}.png")
    layout_trees.picture(root / "train/blur/alone.png")
    layout_trees.picture(root / "train/blur/half.png", size=(12, 18))
    layout_trees.picture(root / "train/blur/deep.png", dtype=np.uint16)
    clear = np.full((13, 18, 4), 128, np.uint8)
    write_values(root / "train/gt/clear.png", clear)
    cut = root / "train/gt/cut.png"
    cut.write_bytes(cut.read_bytes()[:100])
    torn = bytearray((root / "train/gt/torn.png").read_bytes())
    torn[200:260] = bytes(60)
    (root / "train/gt/torn.png").write_bytes(torn)
    report = import_dataset(root, tmp_path / "shards", CONFIG)
    failed = {entry.id: entry.reason for entry in read_index(tmp_path / "shards").failed}
    assert failed == {
        "cut": Reason.UNREADABLE,
        "torn": Reason.UNREADABLE,
        "clear": Reason.UNREADABLE,
        "half": Reason.SIZE_MISMATCH,
        "deep": Reason.UNSUPPORTED,
        "train/blur/alone.png": Reason.NO_PARTNER,
    }
    assert report.done == 2
    assert report.rejected == {"unreadable": 3, "no_partner": 1, "size_mismatch": 1, "unsupported": 1}
    assert str(tmp_path) not in (tmp_path / "shards/index.json").read_text()
    verify.verify_shards(tmp_path / "shards")


def test_opaque_alpha_grey_palettes_and_jpeg_keep_their_values(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in ("alpha", "grey"):
        layout_trees.picture(folder / "gt" / f"{name}.png")
    colours = layout_trees.picture(folder / "blur/alpha.png")
    opaque = np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])
    write_values(folder / "blur/alpha.png", opaque)
    write_values(folder / "blur/grey.png", colours[..., 0])
    for role in ("blur", "gt"):
        cv2.imwrite(str(folder / role / "lossy.jpg"), colours)
    import_dataset(folder, tmp_path / "shards", CONFIG, ImportConfig(blur="blur", sharp="gt"))
    with ShardReader(tmp_path / "shards") as reader:
        np.testing.assert_array_equal(reader.read("alpha").blur, colours)
        np.testing.assert_array_equal(reader.read("grey").blur, np.repeat(colours[..., :1], 3, axis=2))
        np.testing.assert_array_equal(reader.read("lossy").blur, cv2.imread(str(folder / "gt/lossy.jpg"))[..., ::-1])


def test_pairs_of_the_rarer_depth_are_left_out_unless_the_configuration_says_which(tmp_path: Path) -> None:
    root = layout_trees.sdd(tmp_path / "set")
    for role in ("blur", "gt"):
        layout_trees.picture(root / "train" / role / "deep.png", dtype=np.uint16)
    import_dataset(root, tmp_path / "eight", CONFIG)
    assert read_index(tmp_path / "eight").encoding is Encoding.SRGB8
    import_dataset(root, tmp_path / "sixteen", PackConfig(encoding=Encoding.LINEAR16, patch_size=16))
    with ShardReader(tmp_path / "sixteen") as reader:
        assert (reader.encoding, reader.pair_ids) == (Encoding.LINEAR16, ("train-deep",))


def test_two_folders_are_shared_out_by_the_configuration(tmp_path: Path) -> None:
    for number in range(10):
        for role in ("a", "b"):
            layout_trees.picture(tmp_path / "set" / role / f"{number}.png")
    import_dataset(tmp_path / "set", tmp_path / "shards", CONFIG, ImportConfig(blur="a", sharp="b"))
    splits = read_index(tmp_path / "shards").splits
    assert {split: len(scenes) for split, scenes in splits.items()} == {"train": 7, "val": 1, "test": 2}


def test_workers_and_interruptions_change_no_byte(tmp_path: Path) -> None:
    root = layout_trees.dpdd(tmp_path / "set")
    import_dataset(root, tmp_path / "once", CONFIG)
    import_dataset(root, tmp_path / "again", CONFIG, executor="local:2")
    assert contents(tmp_path / "again") == contents(tmp_path / "once")
    (tmp_path / "again/index.json").unlink()
    (tmp_path / "again/train-00000-of-00001.h5").unlink()
    import_dataset(root, tmp_path / "again", CONFIG)
    assert contents(tmp_path / "again") == contents(tmp_path / "once")
    report = import_dataset(root, tmp_path / "again", CONFIG)
    assert (report.done, report.skipped) == (0, 6)


def test_a_file_that_changed_is_packed_anew(tmp_path: Path) -> None:
    root = layout_trees.sdd(tmp_path / "set")
    import_dataset(root, tmp_path / "shards", CONFIG)
    write_values(root / "test/gt/0001.png", np.full((13, 18, 3), 7, np.uint8))
    report = import_dataset(root, tmp_path / "shards", CONFIG)
    assert (report.done, report.skipped) == (2, 2)
    with ShardReader(tmp_path / "shards") as reader:
        assert (reader.read("test-0001").sharp == 7).all()


def test_a_set_without_a_pair_is_an_error_that_names_the_first_trouble(tmp_path: Path) -> None:
    layout_trees.picture(tmp_path / "set/source/1.png")
    (tmp_path / "set/target").mkdir()
    with pytest.raises(InputError, match=r"source/1\.png: no_partner"):
        import_dataset(tmp_path / "set", tmp_path / "shards", CONFIG)


def test_the_manifest_route_keeps_splits_as_a_section_to_pack_by(tmp_path: Path) -> None:
    root = layout_trees.lfdof(tmp_path / "set")
    (root / "notes, and more.txt").write_text("x")
    import_as_manifest(root, tmp_path / "out")
    found = read_manifest(tmp_path / "out" / MANIFEST)
    assert found.records[0].id == "IMG_1275_ap1_00"
    assert found.locate(found.records[0].blur) == root / "train_data/input/IMG_1275/IMG_1275_ap1_00.png"
    lists = tomllib.loads((tmp_path / "out/splits.toml").read_text())["pack"]["split"]
    assert lists == {"train": ["IMG_1275"], "test": ["IMG_2000"]}
    PackConfig(split=lists)
    assert '"./notes, and more.txt",unsupported' in (tmp_path / "out/rejected_files.csv").read_text()


def test_nothing_is_written_among_the_files_that_are_read(tmp_path: Path) -> None:
    root = layout_trees.realdof(tmp_path / "set")
    with pytest.raises(InputError, match="lies in"):
        import_dataset(root, root / "shards", CONFIG)
    with pytest.raises(InputError, match="lies in"):
        import_as_manifest(root, root)


def test_a_folder_that_is_no_export_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no export"):
        import_dataset(
            layout_trees.realdof(tmp_path / "set"), tmp_path / "shards", CONFIG, ImportConfig(layout="exported")
        )


def test_a_pair_that_kills_its_worker_is_left_out_with_that_reason(tmp_path: Path) -> None:
    frames = layout_trees.lfdof(tmp_path / "set")
    import_dataset(frames, tmp_path / "shards", CONFIG)
    with ShardReader(tmp_path / "shards", "test") as reader:
        record = reader.record("IMG_2000_ap1_00")
    entry = ImportedFrames(record, "test", record.blur, record.sharp, 8)
    (task,) = plan_import(frames, tmp_path / "one", [entry], {"IMG_2000": "test"}, CONFIG, Encoding.SRGB8)
    note = build_shard(replace(task, lost=(FailedPair("IMG_2000_ap1_00", Reason.WORKER_DIED),))).note
    assert [(failure.id, failure.reason) for failure in note.failed] == [("IMG_2000_ap1_00", Reason.WORKER_DIED)]
    assert note.shard.pairs == ()


def test_the_card_of_a_set_with_many_files_left_out_stays_short(tmp_path: Path) -> None:
    root = layout_trees.realdof(tmp_path / "set")
    for number in range(60):
        (root / f"note-{number:02d}.txt").write_text("x")
    (root / "a").write_text("called like a pair")
    import_dataset(root, tmp_path / "shards", CONFIG)
    card(tmp_path / "shards", CardConfig())
    text = (tmp_path / "shards/README.md").read_text()
    assert text.count("| ./note-") == 49
    verify.verify_shards(tmp_path / "shards")
    assert "and 11 more, see `failed` in `index.json`" in text


P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def write_colour_pairs(root: Path) -> np.ndarray:
    """Two pairs of one scene: sRGB against Display P3 of the same light, and of a colour outside of sRGB; 16 bits."""
    profile = ColourProfile("Display P3", (SRGB_CURVE,) * 3, colorants_of(P3))
    colour = ImageColour(profile, encode_icc(profile))
    y, x = np.mgrid[:32, :48] / 48
    light = np.stack([0.1 + 0.8 * x, 0.15 + 0.3 * y, 0.1 + 0.1 * (x + y)], axis=-1).astype(np.float32)
    own = np.clip(light @ np.linalg.inv(profile.to_srgb).T, 0, 1).astype(np.float32)
    for folder in ("soft", "crisp"):
        (root / folder).mkdir(parents=True)
    srgb = np.asarray(encode(light, Encoding.SRGB16))
    write_image(root / "soft/1.tif", srgb)
    write_image(root / "crisp/1.tif", encode_light(own, profile, np.uint16), colour=colour)
    write_image(root / "soft/2.tif", srgb)
    green = np.zeros((32, 48, 3), np.uint16)
    green[..., 1] = 65535
    write_image(root / "crisp/2.tif", green, colour=colour)
    return srgb


def test_a_pair_of_two_colour_profiles_gets_one_and_says_so(tmp_path: Path) -> None:
    srgb = write_colour_pairs(tmp_path / "set")
    out = tmp_path / "out"
    import_dataset(tmp_path / "set", out, PackConfig(patch_size=16), ImportConfig(blur="soft", sharp="crisp"))
    with ShardReader(out) as reader:
        same, outside = (reader.read(name) for name in ("1", "2"))
    np.testing.assert_array_equal(same.blur, srgb)
    assert np.abs(same.sharp.astype(int) - srgb).max() <= 2
    assert same.record.notes == ("the sharp frame is converted from Display P3 to sRGB primaries",)
    assert outside.sharp[0, 0].tolist() == [0, 65535, 0]
    assert outside.record.notes[1] == "100 % of the sharp frame lie outside of sRGB and are clipped"
    card(out, CardConfig())
    text = (out / CARD_NAME).read_text(encoding="utf-8")
    assert "no pixel was modified" not in text
    assert "converted from Display P3 to sRGB primaries (2 frames)" in text


def test_a_manifest_of_other_profiles_says_what_will_be_done(tmp_path: Path) -> None:
    write_colour_pairs(tmp_path / "set")
    import_as_manifest(tmp_path / "set", tmp_path / "out", ImportConfig(blur="soft", sharp="crisp"))
    record, _ = read_manifest(tmp_path / "out" / MANIFEST).records
    assert record.notes == ("the sharp frame is converted from Display P3 to sRGB primaries",)
    assert record.sharp_meta.colour == "converted from Display P3 to sRGB primaries"
    assert record.blur_meta.colour is None


def test_an_exported_linear_set_says_that_it_is_linear_and_comes_back_to_the_bit(tmp_path: Path) -> None:
    write_colour_pairs(tmp_path / "set")
    linear = PackConfig(patch_size=16, encoding=Encoding.LINEAR16)
    import_dataset(tmp_path / "set", tmp_path / "one", linear, ImportConfig(blur="soft", sharp="crisp"))
    export_dataset(tmp_path / "one", tmp_path / "files", layout="tiff")
    exported = next((tmp_path / "files").rglob("sharp/1.tif"))
    assert read_colour(exported).conversion == "converted from linear sRGB to sRGB primaries"
    import_dataset(tmp_path / "files", tmp_path / "two", PackConfig(patch_size=16))
    with ShardReader(tmp_path / "one") as one, ShardReader(tmp_path / "two") as two:
        for name in ("1", "2"):
            np.testing.assert_array_equal(two.read(name).sharp, one.read(name).sharp)
            np.testing.assert_array_equal(two.read(name).blur, one.read(name).blur)


def test_colours_that_cannot_be_converted_are_a_reason(tmp_path: Path) -> None:
    write_colour_pairs(tmp_path / "set")
    Image.new("CMYK", (48, 32)).save(tmp_path / "set/soft/1.tif")
    import_dataset(
        tmp_path / "set", tmp_path / "out", PackConfig(patch_size=16), ImportConfig(blur="soft", sharp="crisp")
    )
    (failure,) = read_index(tmp_path / "out").failed
    assert (failure.id, failure.reason) == ("1", Reason.UNREADABLE)
    assert "CMYK" in failure.detail
