from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.layouts.catalogue import survey_folder
from sdd_toolkit.layouts.listing import Listing, images_by_key, match_by_name
from tests.support import layout_trees


def ids(listing: Listing) -> list[tuple[str, str, str | None]]:
    return [(pair.id, pair.scene, pair.split) for pair in listing.pairs]


def left(listing: Listing) -> dict[str, str]:
    return {entry.path: f"{entry.reason} {entry.detail}".strip() for entry in listing.unpaired}


def test_dpdd_pairs_by_order_where_camera_names_differ_and_reports_its_views(tmp_path: Path) -> None:
    found, listing = survey_folder(layout_trees.dpdd(tmp_path), "auto")
    assert found == "dpdd"
    assert [(pair.split, pair.blur, pair.sharp) for pair in listing.pairs][:2] == [
        ("train", "train_c/source/1P0A0011.png", "train_c/target/1P0A0010.png"),
        ("train", "train_c/source/1P0A0013.png", "train_c/target/1P0A0012.png"),
    ]
    assert [pair.split for pair in listing.pairs] == ["train", "train", "val", "val", "test", "test"]
    assert len(listing.unpaired) == 12
    assert left(listing)["val_r/source/1P0A0031_R.png"].startswith("unsupported a dual-pixel view")


def test_dpdd_of_frames_too_small_to_compare_pairs_nothing_of_a_split_with_one_frame_too_few(tmp_path: Path) -> None:
    (layout_trees.dpdd(tmp_path) / "val_c/target/1P0A0030.png").unlink()
    _, listing = survey_folder(tmp_path, "dpdd")
    assert [pair.split for pair in listing.pairs] == ["train", "train", "test", "test"]
    assert left(listing)["val_c/target/1P0A0032.png"].startswith("no_partner too small or too flat to compare")
    assert "3 frames are left out" in listing.warnings[0]


def test_names_that_stand_in_two_splits_get_their_split_in_front(tmp_path: Path) -> None:
    found, listing = survey_folder(layout_trees.sdd(tmp_path), "auto")
    assert found == "sdd"
    assert ids(listing) == [
        (f"{split}-{name}", f"{split}-{name}", split) for split in ("test", "train") for name in ("0001", "0002")
    ]


def test_patches_of_sdd_are_read_where_there_are_no_frames_and_told_as_cut_out_where_there_are(tmp_path: Path) -> None:
    _, listing = survey_folder(layout_trees.sdd(tmp_path / "patches", ("train_patches",)), "auto")
    assert ids(listing) == [("0001", "0001", "train"), ("0002", "0002", "train")]
    _, listing = survey_folder(layout_trees.sdd(tmp_path / "both", ("train", "train_patches")), "auto")
    assert ids(listing) == [("0001", "0001", "train"), ("0002", "0002", "train")]
    assert left(listing)["train_patches/gt/0001.png"] == "duplicate cut out of train"


def test_realdof_is_a_test_set(tmp_path: Path) -> None:
    found, listing = survey_folder(layout_trees.realdof(tmp_path), "auto")
    assert (found, ids(listing)) == ("realdof", [("a", "a", "test"), ("b", "b", "test")])


def test_every_refocused_frame_of_lfdof_belongs_to_its_light_field(tmp_path: Path) -> None:
    found, listing = survey_folder(layout_trees.lfdof(tmp_path), "auto")
    assert found == "lfdof"
    assert ids(listing)[0] == ("IMG_1275_ap1_00", "IMG_1275", "train")
    assert len(listing.pairs) == 6
    assert {pair.sharp for pair in listing.pairs if pair.split == "test"} == {"test_data/ground_truth/IMG_2000.png"}
    assert listing.unpaired == ()


def test_realbokeh_is_turned_round_and_keeps_its_f_numbers(tmp_path: Path) -> None:
    found, listing = survey_folder(layout_trees.realbokeh(tmp_path), "auto")
    first = listing.pairs[0]
    assert found == "realbokeh"
    assert (first.id, first.scene, first.split, first.f_number) == ("test-1_f2.0", "test-1", "test", 2.0)
    assert (first.blur, first.sharp) == ("test/gt/1/1_f2.0.png", "test/in/1_f22.png")
    assert len(listing.pairs) == 12
    assert listing.unpaired == ()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"source_image": "../../x", "target_images": [], "target_avs": []}', "[" * 9999]
)
def test_a_scene_whose_facts_are_damaged_or_lead_out_is_told(tmp_path: Path, text: str) -> None:
    path = layout_trees.realbokeh(tmp_path) / "train/metadata/1.json"
    path.write_text(text)
    _, listing = survey_folder(tmp_path, "realbokeh")
    assert len(listing.pairs) == 10
    assert left(listing)["train/metadata/1.json"].startswith("unreadable")


def test_any_two_folders_pair_by_path_and_have_no_splits(tmp_path: Path) -> None:
    for name in ("x/1.png", "x/2.png", "3.png"):
        layout_trees.picture(tmp_path / "soft" / name)
    for name in ("x/1.png", "x/2.tif", "4.png"):
        layout_trees.picture(tmp_path / "crisp" / name)
    found, listing = survey_folder(tmp_path, "auto", "soft", "crisp/")
    assert (found, ids(listing)) == ("folders", [("x-1", "x", None), ("x-2", "x", None)])
    assert left(listing) == {"crisp/4.png": "no_partner", "soft/3.png": "no_partner"}


def test_a_folder_one_level_too_high_is_pointed_down(tmp_path: Path) -> None:
    layout_trees.dpdd(tmp_path / "dd_dp_dataset_canon")
    with pytest.raises(InputError, match="dd_dp_dataset_canon looks like dpdd"):
        survey_folder(tmp_path, "auto")


def test_an_unknown_layout_says_what_is_there_and_what_is_known(tmp_path: Path) -> None:
    layout_trees.picture(tmp_path / "pictures" / "1.png")
    with pytest.raises(InputError, match="its folders: pictures") as caught:
        survey_folder(tmp_path, "auto")
    assert "realbokeh = train|validation|test/{in,gt,metadata}" in caught.value.hint


@pytest.mark.parametrize(("blur", "sharp"), [("../a", "b"), ("/a", "b"), ("a", None), ("a", "a/b"), ("a", "a")])
def test_folders_that_lead_out_or_lie_in_each_other_are_refused(tmp_path: Path, blur: str, sharp: str | None) -> None:
    with pytest.raises((InputError, ManifestError)):
        survey_folder(tmp_path, "auto", blur, sharp)


def test_links_that_lead_out_are_refused_and_told(tmp_path: Path) -> None:
    layout_trees.picture(tmp_path / "outside.png")
    root = layout_trees.sdd(tmp_path / "set")
    os.symlink(tmp_path / "outside.png", root / "train/blur/0003.png")
    os.symlink(tmp_path, root / "train/gt/more")
    layout_trees.picture(root / "train/gt/0003.png")
    _, listing = survey_folder(root, "sdd")
    assert left(listing) == {
        "train/blur/0003.png": "unsupported a link that leads out of the folder",
        "train/gt/0003.png": "no_partner",
        "train/gt/more": "unsupported a link to a folder",
    }


def test_names_that_cannot_be_ids_and_files_that_are_no_pictures_are_told(tmp_path: Path) -> None:
    root = layout_trees.sdd(tmp_path, ("train",))
    for role in ("blur", "gt"):
        layout_trees.picture(root / "train" / role / ".hidden.png")
        layout_trees.picture(root / "train" / role / ("n" * 210 + ".png"))
        layout_trees.picture(root / "train" / role / "bell\x07.png")
    (root / "LICENSE.txt").write_text("free")
    _, listing = survey_folder(root, "sdd")
    assert [pair.id for pair in listing.pairs] == ["0001", "0002"]
    told = left(listing)
    assert told["LICENSE.txt"] == "unsupported not a picture"
    assert told["train/blur/.hidden.png"] == "unsupported a hidden file"
    assert told["train/gt/bell\\x07.png"] == "unsupported its name is not printable"
    assert len(told) == 7


def test_equal_names_pair_unless_they_are_a_coincidence() -> None:
    blurs = images_by_key(["s/1.png", "s/2.png", "s/3.png", "s/note.txt"], "s")
    sharps = images_by_key(["t/2.tif", "t/4.png", "t/5.png"], "t")
    assert match_by_name(blurs, sharps) == [("2", "s/2.png", "t/2.tif")]
    assert match_by_name(blurs, sharps, mostly=True) == []
    assert match_by_name(blurs, {**sharps, "3": "t/3.png"}, mostly=True) == [
        ("2", "s/2.png", "t/2.tif"),
        ("3", "s/3.png", "t/3.png"),
    ]


def test_one_split_alone_is_known_by_the_name_of_its_folder(tmp_path: Path) -> None:
    layout_trees.dpdd(tmp_path / "canon")
    layout_trees.sdd(tmp_path / "SDD", ("train_patches", "mine"))
    for folder, split in (("canon/val_c", "val"), ("SDD/train_patches", "train"), ("SDD/mine", None)):
        _, listing = survey_folder(tmp_path / folder, "auto")
        assert [pair.split for pair in listing.pairs] == [split, split]
