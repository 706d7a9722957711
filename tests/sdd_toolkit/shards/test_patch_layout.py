from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.shards.codecs import Profile
from sdd_toolkit.shards.patch_reader import PatchReader, read_patch_index
from sdd_toolkit.shards.patch_writer import write_patches
from sdd_toolkit.shards.reader import ShardReader
from tests.support.small_dataset import contents, filtered_manifest

LOAD = """
import sys, hdf5plugin
from pathlib import Path
import numpy as np
from datasets import load_dataset
folder, out = Path(sys.argv[1]), sys.argv[2]
files = {"train": [str(path) for path in sorted(folder.glob("train-*.h5"))]}
rows = load_dataset("hdf5", data_files=files, cache_dir=sys.argv[3], split="train").with_format("numpy")
np.savez(out, count=len(rows), **{name: np.asarray(rows[5][name]) for name in rows.column_names})
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of one pair each, patches of 100 px: no multiple of four, so nor are their places."""
    folder = tmp_path_factory.mktemp("set")
    pack_dataset(filtered_manifest(folder / "in", scenes=3, pairs=1), folder / "shards", PackConfig(patch_size=100))
    return folder / "shards"


@pytest.mark.parametrize("profile", list(Profile))
def test_every_row_is_its_window_of_the_pair(pairs: Path, tmp_path: Path, profile: Profile) -> None:
    report = write_patches(pairs, tmp_path, profile=profile, patches_per_shard=7)
    with ShardReader(pairs) as whole, PatchReader(tmp_path) as reader:
        assert (report.total, report.done, len(reader)) == (len(whole.patches),) * 3
        assert reader.patches == whole.patches
        for number in (0, 6, 7, len(reader) - 1):
            row, patch = reader.read(number), whole.patches[number]
            window = whole.read_window(patch.pair, patch.top, patch.left, 100, 100)
            for name in ("blur", "sharp", "valid"):
                np.testing.assert_array_equal(getattr(row, name), getattr(window, name))
            for image, expected in zip(reader.read_images(number), (window.blur, window.sharp), strict=True):
                np.testing.assert_array_equal(image, expected)
            assert row.flow.shape == (25, 25, 2)
            middle = window.flow.reshape(25, 4, 25, 4, 2)[:, 1:3, :, 1:3].mean((1, 3))
            np.testing.assert_allclose(row.flow, middle, atol=0.1)


def test_all_data_sets_of_a_file_are_equally_long_and_one_row_is_one_chunk(pairs: Path, tmp_path: Path) -> None:
    write_patches(pairs, tmp_path, patches_per_shard=7)
    first = read_patch_index(tmp_path).shards[0]
    with h5py.File(tmp_path / first.name) as file:
        assert {len(data) for data in file.values()} == {7} == {first.patches}
        assert file["blur"].chunks == (1, 100, 100, 3)
        assert file["scene"].asstr()[0] == "scene-0000"
        assert file["coc_px"][0] == 4.0
        assert (file.attrs["format"], file.attrs["version"]) == ("sdd-patches", 1)


def test_hugging_face_datasets_reads_it(pairs: Path, tmp_path: Path) -> None:
    write_patches(pairs, tmp_path / "patches", patches_per_shard=7)
    arguments = [sys.executable, "-c", LOAD, tmp_path / "patches", tmp_path / "found.npz", tmp_path / "cache"]
    told = subprocess.run([str(each) for each in arguments], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    with PatchReader(tmp_path / "patches", "train") as reader, np.load(tmp_path / "found.npz") as found:
        row = reader.read(5)
        assert found["count"] == len(reader)
        for name in ("blur", "sharp", "valid", "flow"):
            np.testing.assert_array_equal(found[name], getattr(row, name))
        assert (str(found["pair"]), int(found["top"])) == (row.patch.pair, row.patch.top)


def test_the_same_pairs_give_the_same_bytes_and_nothing_is_done_twice(pairs: Path, tmp_path: Path) -> None:
    write_patches(pairs, tmp_path / "first")
    expected = contents(tmp_path / "first")
    assert write_patches(pairs, tmp_path / "first").done == 0
    write_patches(pairs, tmp_path / "second", profile=Profile.RAW)
    report = write_patches(pairs, tmp_path / "second", patches_per_shard=512)
    assert report.done == report.total
    assert contents(tmp_path / "second") == expected == contents(tmp_path / "first")


def test_a_damaged_or_shortened_set_is_written_anew(pairs: Path, tmp_path: Path) -> None:
    write_patches(pairs, tmp_path, patches_per_shard=7)
    expected = contents(tmp_path)
    first = read_patch_index(tmp_path).shards[0].name
    (tmp_path / first).write_bytes(expected[first][:-1])
    write_patches(pairs, tmp_path, patches_per_shard=7)
    assert contents(tmp_path) == expected
    some = write_patches(pairs, tmp_path, patches_per_shard=7, keep=lambda patch: patch.top == 0)
    assert some.done == some.total == len(PatchReader(tmp_path))


def test_neither_layout_is_taken_for_the_other(pairs: Path, tmp_path: Path) -> None:
    write_patches(pairs, tmp_path)
    with pytest.raises(InputError, match="'sdd-patches'"):
        ShardReader(tmp_path)
    with pytest.raises(InputError, match="'sdd-shards'"):
        PatchReader(pairs)
    with pytest.raises(InputError, match="'sdd-shards'"):
        write_patches(pairs, pairs)


def test_a_patch_reader_can_be_pickled_and_names_what_is_damaged(pairs: Path, tmp_path: Path) -> None:
    write_patches(pairs, tmp_path)
    reader = PatchReader(tmp_path, "train")
    expected, _ = reader.read_images(3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read_images(3)[0], expected)
    with pytest.raises(IndexError):
        reader.read_images(len(reader))
    path = tmp_path / reader.shards[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=path.name):
        [PatchReader(tmp_path, "train").read_images(number) for number in range(len(reader))]


def test_a_set_without_patches_is_refused(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no patches"):
        write_patches(pairs, tmp_path, keep=lambda patch: False)
