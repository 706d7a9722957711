"""Shards that take their values from elsewhere, or hold what format 1 does not define, are refused by every reader."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards
from sdd_toolkit.errors import IntegrityError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.shards import PatchReader, ShardReader, write_patches, write_shard
from sdd_toolkit.shards.codecs import CODECS, Profile
from sdd_toolkit.shards.index import ShardHeader, read_index, text_with_sha256, write_index
from sdd_toolkit.shards.schema import ARRAYS, StoredPair
from sdd_toolkit.shards.stored_patches import read_pair, read_patches, read_reuse_keys
from sdd_toolkit.shards.tables import read_pair_rows, read_patch_columns
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.locations import Remote
from tests.fuzz import storage_attacks
from tests.fuzz.storage_attacks import ATTACKS, EXTERNAL, IN_ANOTHER_FILE, IN_THE_TABLE, INCOMPLETE, UNKNOWN, Attack
from tests.support.small_shards import SHARD, random_pair, write_folder

SIZE = (48, 64)
SECRET = b"a secret of another file, as pixels. " * 300


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the data set, and an HDF5 file `x` in it of what it holds."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    with h5py.File(f"{path}.h5", "w") as file:
        file["x"] = np.frombuffer(SECRET[: SIZE[0] * SIZE[1] * 3], np.uint8).reshape(*SIZE, 3)
    return path


def attacked(folder: Path, attack: Attack, secret: Path, codec: str = "gzip") -> Path:
    """A folder of one shard that was changed by `attack`; the index has its size and its hash."""
    path = write_folder(folder, [random_pair("p", *SIZE)], codec=codec) / SHARD
    with h5py.File(path, "r+") as file:
        attack(file, secret)
    index = read_index(folder)
    changed = replace(index.shards[0], bytes=path.stat().st_size, sha256=sha256_of(path))
    write_index(folder, replace(index, shards=(changed,)))
    return folder


def readings(folder: Path, codec: str = "gzip") -> dict[str, Callable[[], object]]:
    """Everything that reads a pair of a folder."""
    path, shard = folder / SHARD, read_index(folder).shards[0]
    header = ShardHeader("train", Encoding.SRGB8, 32, codec)
    copied = StoredPair("p", random_pair("p", *SIZE).record, path, "p", None)
    return {
        "reader": lambda: ShardReader(folder, check=True).read("p"),
        "window": lambda: ShardReader(folder).read_window("p", 0, 0, 8, 8),
        "images": lambda: ShardReader(folder).read_images("p", 0, 0, 8, 8),
        "record": lambda: ShardReader(folder).record("p"),
        "rows": lambda: read_pair_rows(folder, shard),
        "stored pair": lambda: read_pair(path, "p"),
        "keys": lambda: read_reuse_keys(path, ["p"]),
        "copy": lambda: write_shard(folder.parent / "copy.h5", header, [(copied, ())]),
        "verify": lambda: verify_shards(folder),
        "quick verify": lambda: verify_shards(folder, pixels=False),
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_no_reader_of_pairs_takes_what_format_1_does_not_define(tmp_path: Path, secret: Path, name: str) -> None:
    codec, reason, attack = ATTACKS[name]
    folder = attacked(tmp_path / "set", attack, secret, codec)
    for reading, read in readings(folder, codec).items():
        with pytest.raises(IntegrityError) as caught:
            read()
        assert reason in caught.value.what, (reading, caught.value.what)


@pytest.mark.parametrize("name", IN_THE_TABLE)
def test_no_reader_of_patches_takes_what_format_1_does_not_define(tmp_path: Path, secret: Path, name: str) -> None:
    reason, attack = IN_THE_TABLE[name]
    folder = attacked(tmp_path / "set", attack, secret)
    shard = read_index(folder).shards[0]
    for read in (
        lambda: ShardReader(folder, check=True).patches,
        lambda: read_patch_columns(folder, shard),
        lambda: read_patches(folder / SHARD, "p"),
        lambda: verify_shards(folder),
        lambda: write_patches(folder, tmp_path / "patches"),
    ):
        with pytest.raises(IntegrityError, match=re.escape(reason)):
            read()


def test_endless_texts_are_found_in_a_store_and_on_every_system(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    folder, store = (
        attacked(tmp_path / "set", storage_attacks.endless_texts, secret),
        Remote(f"memory://{tmp_path.name}"),
    )
    for path in folder.iterdir():
        (store / path.name).write_bytes(path.read_bytes())
    for place in (folder, store):
        with ShardReader(place) as reader, pytest.raises(IntegrityError, match="the texts of /patches are longer"):
            reader.patches  # noqa: B018


def with_rows(file: h5py.File, chunk_rows: int, times: int, *names: str) -> None:
    """Makes arrays of the patch layout anew, their rows several times, in chunks of several rows."""
    for name in names:
        values = np.concatenate([file[name][:]] * times)
        del file[name]
        file.create_dataset(name, data=values, chunks=(chunk_rows, *values.shape[1:]), **storage_attacks.GZIP)


@pytest.mark.parametrize(
    ("profile", "reason", "attack"),
    [
        (Profile.RAW, f"/blur {IN_ANOTHER_FILE}", storage_attacks.replaced("blur", storage_attacks.external)),
        (Profile.RAW, "/sharp is virtual", storage_attacks.replaced("sharp", storage_attacks.virtual)),
        (Profile.PORTABLE, f"/valid {EXTERNAL}", storage_attacks.replaced("valid", storage_attacks.external_link)),
        (Profile.PORTABLE, "/flow has shape", storage_attacks.replaced("flow", storage_attacks.cropped)),
        (Profile.PORTABLE, f"/blur {INCOMPLETE}", storage_attacks.replaced("blur", storage_attacks.never_written_rows)),
        (Profile.PORTABLE, f"/more {UNKNOWN}", lambda file, _: file.create_group("more")),
        (Profile.PORTABLE, "/blur has chunks of 2 rows", lambda file, _: with_rows(file, 2, 1, "blur")),
        (Profile.PORTABLE, "/blur has 4 rows, the table of patches 2", lambda file, _: with_rows(file, 1, 2, *ARRAYS)),
    ],
)
def test_the_patch_layout_is_read_as_strictly(
    tmp_path: Path, secret: Path, profile: Profile, reason: str, attack: Attack
) -> None:
    folder = tmp_path / "patches"
    pairs = write_folder(tmp_path / "set", [random_pair(name, *SIZE) for name in ("p", "q")])
    write_patches(pairs, folder, profile=profile)
    path = folder / SHARD
    with h5py.File(path, "r+") as file:
        attack(file, secret)
    content = json.loads((folder / "index.json").read_text())
    content["shards"][0] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    del content["sha256"]
    (folder / "index.json").write_text(text_with_sha256(content))
    with pytest.raises(IntegrityError, match=re.escape(reason)):
        PatchReader(folder).read_images(0)


@pytest.mark.parametrize("codec", CODECS)
def test_what_the_toolkit_writes_is_read(tmp_path: Path, secret: Path, codec: str) -> None:
    folder = attacked(tmp_path / "set", lambda file, _: None, secret, codec)
    for name, read in readings(folder, codec).items():
        if "verify" not in name:  # random pixels are not those of the patches
            assert read() is not None


def test_a_virtual_data_set_is_refused_before_its_files_are_opened(tmp_path: Path, secret: Path) -> None:
    """Opening a FIFO waits for its other end."""
    Path(f"{secret}.h5").unlink()
    os.mkfifo(f"{secret}.h5")
    folder = attacked(tmp_path / "set", ATTACKS["virtual mask"][2], secret)
    with pytest.raises(IntegrityError, match="is virtual"):
        ShardReader(folder, check=True).read("p")


def test_a_shard_behind_a_user_block_is_refused(tmp_path: Path, secret: Path) -> None:
    folder = attacked(tmp_path / "set", lambda file, _: None, secret)
    path = folder / SHARD
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file, h5py.File(path) as source:
        file.attrs.update(source.attrs)
        for name in source:
            source.copy(name, file)
    path.write_bytes((tmp_path / "block.h5").read_bytes())
    with pytest.raises(IntegrityError, match="user block"):
        read_pair(path, "p")
