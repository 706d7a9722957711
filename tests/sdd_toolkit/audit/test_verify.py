from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards
from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.shards.index import Index, Warp, read_index, text_with_sha256, write_index
from sdd_toolkit.storage.files import sha256_of
from tests.support.small_dataset import filtered_manifest

SHARD = "train-00000-of-00001.h5"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    config = PackConfig(patch_size=128, split=SplitConfig(test=("scene-0001",)))
    pack(filtered_manifest(folder / "set", scenes=2, pairs=2), folder / "shards", config)
    return folder / "shards"


@pytest.fixture
def shards(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "shards"))


def findings(shards: Path, *, pixels: bool = True) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify_shards(shards, pixels=pixels)
    assert caught.value.exit_code == 3
    return caught.value.what


def rewrite(shards: Path, **fields: object) -> None:
    """Changes the index as a faulty program could, its own checksum and the shard's put right."""
    index = read_index(shards)
    size, digest = (shards / SHARD).stat().st_size, sha256_of(shards / SHARD)
    fixed = tuple(replace(shard, bytes=size, sha256=digest) if shard.name == SHARD else shard for shard in index.shards)
    changed: Index = replace(index, **{"shards": fixed, **fields})  # type: ignore[arg-type]
    write_index(shards, changed)


def test_an_intact_folder_passes(shards: Path) -> None:
    (shards / "README.md").write_text("a card")
    report = verify_shards(shards)
    assert (report.stage, report.total, report.done) == ("verify", 4, 4)


def test_a_byte_flipped_anywhere_is_found_and_its_shard_named(shards: Path) -> None:
    content = (shards / SHARD).read_bytes()
    for position in np.random.default_rng(1).integers(0, len(content), 12):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position) % 8
        (shards / SHARD).write_bytes(damaged)
        assert findings(shards).startswith(f"{SHARD}: SHA-256 differs")


def test_without_pixels_a_byte_flipped_anywhere_is_found_all_the_same(shards: Path) -> None:
    assert verify_shards(shards, pixels=False).done == 4
    content = (shards / SHARD).read_bytes()
    for position in np.random.default_rng(1).integers(0, len(content), 12):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position) % 8
        (shards / SHARD).write_bytes(damaged)
        assert findings(shards, pixels=False).startswith(f"{SHARD}: SHA-256 differs")


def test_without_pixels_the_layout_is_checked_and_no_array_is_looked_into(shards: Path) -> None:
    plain = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    with h5py.File(shards / SHARD, "r+") as file:
        file["pairs/scene-0000-00/flow"][...] = np.nan
        file["patches/top"][0] = 9999
        file["pairs/scene-0000-00"].attrs["box"] = np.array([0, 0, 8, 8], np.int32)
        del file["pairs/scene-0000-01/flow"]
        file["pairs/scene-0000-01"].create_dataset("flow", data=np.zeros((3, 3, 2), np.float16), **plain)
    rewrite(shards)
    quick, whole = findings(shards, pixels=False), findings(shards)
    assert "leaves the frame" in quick
    assert "scene-0000-00: its box is (0, 0, 8, 8)" in quick
    assert "scene-0000-01: /pairs/scene-0000-01/flow has shape (3, 3, 2), expected" in quick
    assert "not finite" not in quick
    assert "flow is not finite" in whole


def test_workers_find_what_one_process_finds_in_the_same_order(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(shards / SHARD, "r+") as file:
        file["patches/sharpness"][...] = 2.0
    rewrite(shards)
    (shards / "test-00000-of-00001.h5").write_bytes(b"cut")
    alone = findings(shards)
    monkeypatch.setattr("sdd_toolkit.audit.verify._FEW_BYTES", 0)
    with pytest.raises(IntegrityError) as caught:
        verify_shards(shards, executor="local:2")
    assert caught.value.what == alone


def test_a_byte_flipped_anywhere_in_the_index_is_found(shards: Path) -> None:
    content = (shards / "index.json").read_bytes()
    for position in np.random.default_rng(2).integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position) % 7
        (shards / "index.json").write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"index\.json"):
            verify_shards(shards)


def test_truncated_and_missing_shards_are_both_listed(shards: Path) -> None:
    (shards / SHARD).write_bytes((shards / SHARD).read_bytes()[:1000])
    (shards / "test-00000-of-00001.h5").unlink()
    what = findings(shards)
    assert f"{SHARD}: 1000 bytes, the index says" in what
    assert "test-00000-of-00001.h5: missing" in what


@pytest.mark.parametrize(
    "name",
    [
        *("train-00001-of-00002.h5", f"{SHARD}.partial", f"{SHARD}.json", f"{SHARD}.0123abcd.partial"),
        *("index.json.partial", "README.md.partial", "pairs.csv.0123abcd.partial"),
    ],
)
def test_a_file_that_belongs_to_no_shard_is_found(shards: Path, name: str) -> None:
    (shards / name).write_bytes(b"")
    assert findings(shards) == f"{name}: not in the index"


def test_what_others_left_beside_the_shards_is_no_fault(shards: Path) -> None:
    for name in ("film.mp4.partial", "notes.txt", ".partial", "README.md.bak.partial"):
        (shards / name).write_bytes(b"")
    verify_shards(shards)


def test_no_index_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.json"):
        verify_shards(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("pairs/scene-0000-00/flow", np.nan, "flow is not finite"),
        ("pairs/scene-0000-00/valid", 0, "valid, not 1.0000"),
        ("patches/top", 9999, "leaves the frame"),
        ("patches/sharpness", 2.0, "has sharpness 2.0"),
    ],
)
def test_wrong_numbers_under_right_hashes_are_found(shards: Path, name: str, value: float, finding: str) -> None:
    with h5py.File(shards / SHARD, "r+") as file:
        file[name][...] = value
    rewrite(shards)
    assert finding in findings(shards)


def test_a_chunk_that_does_not_decode_is_found_and_the_rest_still_checked(shards: Path) -> None:
    with h5py.File(shards / SHARD, "r+") as file:
        file["pairs/scene-0000-00/blur"].id.write_direct_chunk((0, 0, 0), b"rubbish")
        file["pairs/scene-0000-01/flow"][...] = np.inf
    rewrite(shards)
    (shards / "test-00000-of-00001.h5").unlink()
    what = findings(shards)
    assert f"{SHARD}: scene-0000-00: " in what
    assert f"{SHARD}: scene-0000-01: flow is not finite" in what
    assert "test-00000-of-00001.h5: missing" in what


def test_attributes_and_groups_that_differ_from_the_index_are_found(shards: Path) -> None:
    with h5py.File(shards / SHARD, "r+") as file:
        file.attrs["split"] = "val"
        file["pairs"].move("scene-0000-01", "stowaway")
    rewrite(shards)
    what = findings(shards)
    assert "its attributes differ from the index" in what
    assert "it does not hold the pairs the index says" in what


def test_a_shard_that_says_another_warp_than_the_index_is_found(shards: Path) -> None:
    rewrite(shards, warp=Warp.HOMOGRAPHY_FLOW)
    assert "its attributes differ from the index" in findings(shards)


def test_a_box_of_another_size_than_the_arrays_is_found(shards: Path) -> None:
    with h5py.File(shards / SHARD, "r+") as file:
        file["pairs/scene-0000-00"].attrs["box"] = np.array([0, 0, 8, 8], np.int32)
    rewrite(shards)
    assert "scene-0000-00: its box is (0, 0, 8, 8)" in findings(shards)


def test_a_scene_in_two_splits_is_found(shards: Path) -> None:
    both = ("scene-0000", "scene-0001")
    rewrite(shards, splits={"train": both, "val": (), "test": both})
    assert "the scene 'scene-0000' appears twice" in findings(shards)


def test_a_reduction_or_a_curve_that_is_not_the_encodings_is_found(shards: Path) -> None:
    rewrite(shards, reduction=2, transfer_parameters=Encoding.LINEAR16.transfer)
    found = findings(shards)
    assert "transfer_parameters are not the curve of srgb8" in found
    assert "a reduction of 2 does not go with demosaic = ahd" in found


def test_an_index_of_before_these_keys_passes(shards: Path) -> None:
    content = json.loads((shards / "index.json").read_text())
    del content["sha256"]
    for key in ("demosaic", "highlights", "lens_correction", "reduction", "transfer_parameters"):
        del content[key]
    (shards / "index.json").write_text(text_with_sha256(content))
    assert verify_shards(shards).done == 4
