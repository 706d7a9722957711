from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdd_toolkit.shards.arrays import StoredArray, create_array, map_file, write_array
from sdd_toolkit.shards.codecs import CODECS

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def content_of(codec: str, path: Path) -> bytes:
    chunks = None if codec == "none" else (24, 32, 3)
    with h5py.File(path, "w") as file:
        data = create_array(file, "blur", IMAGE.shape, IMAGE.dtype, CODECS[codec], chunks, image=True)
        write_array(data, IMAGE, CODECS[codec])
    return path.read_bytes()


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_file_that_cannot_be_mapped_is_read_through_hdf5(tmp_path: Path, codec: str) -> None:
    content = content_of(codec, tmp_path / "x.h5")
    with h5py.File(io.BytesIO(content), "r") as file:
        assert map_file(file) is None
        array = StoredArray(file["blur"], map_file(file))
        np.testing.assert_array_equal(array.read(((3, 47), (20, 70))), IMAGE[3:47, 20:70])


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_file_on_disk_gives_the_same(tmp_path: Path, codec: str) -> None:
    content_of(codec, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        array = StoredArray(file["blur"], map_file(file))
        for _ in range(2):
            np.testing.assert_array_equal(array.read(((3, 47), (20, 70))), IMAGE[3:47, 20:70])
        np.testing.assert_array_equal(array.read(), IMAGE)
        found = array.read(((0, 24), (32, 64)))
        found[:] = 0
        np.testing.assert_array_equal(array.read(((0, 24), (32, 64))), IMAGE[:24, 32:64])


def test_a_chunk_that_was_stored_without_its_filters_is_refused(tmp_path: Path) -> None:
    content_of("blosc2-bitshuffle-lz4", tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["blur"].id.write_direct_chunk((0, 0, 0), bytes(24 * 32 * 3), 1)
    with h5py.File(tmp_path / "x.h5") as file, pytest.raises(ValueError, match="without its filters"):
        StoredArray(file["blur"], map_file(file)).read()


def test_a_missing_chunk_is_an_error_not_made_up_pixels(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        create_array(file, "blur", IMAGE.shape, IMAGE.dtype, CODECS["blosc2-bitshuffle-lz4"], (24, 32, 3), image=True)
    with h5py.File(tmp_path / "x.h5") as file, pytest.raises(KeyError):
        StoredArray(file["blur"], map_file(file)).read()
