from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdd_toolkit.shards.blosc_chunks import decode_chunk, encode_chunk, fast_element_bytes, fletcher32

KINDS = ("noise", "smooth", "zero", "one value")


def block_of(kind: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    draw = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    if kind == "noise":
        return draw.integers(0, top, shape, dtype)
    if kind == "smooth":
        return np.sort(draw.integers(0, top, shape, dtype), axis=0)
    return np.full(shape, 0 if kind == "zero" else 77, dtype)


def through_hdf5(stored: bytes, block: NDArray[Any]) -> NDArray[Any]:
    """What the HDF5 filters make of a chunk."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        filters = hdf5plugin.Blosc2(cname="lz4", clevel=9, filters=hdf5plugin.Blosc2.BITSHUFFLE)
        kinds = {"shape": block.shape, "dtype": block.dtype, "chunks": block.shape}
        data = file.create_dataset("x", fletcher32=True, **kinds, **filters)
        data.id.write_direct_chunk((0,) * block.ndim, stored)
        found: NDArray[Any] = data[:]
        return found


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["uint8", "uint16"]),
    st.sampled_from([1, 8, 32]),
)
def test_a_chunk_comes_back_here_and_through_the_filters_of_hdf5(
    kind: str, height: int, width: int, dtype: str, pixels: int
) -> None:
    block = block_of(kind, (height, width, 3), dtype)
    stored = encode_chunk(block, pixels * 3 * block.itemsize)
    found = np.empty_like(block)
    decode_chunk(memoryview(stored), found, check=True)
    np.testing.assert_array_equal(found, block)
    np.testing.assert_array_equal(through_hdf5(stored, block), block)


def test_a_patch_as_large_as_they_come_is_read_back() -> None:
    block = block_of("noise", (1, 512, 512, 3), "uint16")
    found = np.empty_like(block)
    decode_chunk(memoryview(encode_chunk(block, 6)), found, check=True)
    np.testing.assert_array_equal(found, block)


@given(st.binary(min_size=1, max_size=600))
def test_the_checksum_is_the_one_hdf5_puts_behind_a_chunk(content: bytes) -> None:
    assert_checksum_of_hdf5(content)


@pytest.mark.parametrize("size", [511, 512, 513, 131_072, 2_000_001])
def test_the_checksum_is_exact_where_its_sums_are_largest(size: int) -> None:
    assert_checksum_of_hdf5(b"\xff" * size)


def assert_checksum_of_hdf5(content: bytes) -> None:
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        data = file.create_dataset("x", data=np.frombuffer(content, np.uint8), chunks=(len(content),), fletcher32=True)
        stored = data.id.read_direct_chunk((0,))[1]
    assert stored == content + fletcher32(content).to_bytes(4, "little")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_flipped_bit_anywhere_is_found(data: st.DataObject) -> None:
    block = block_of("smooth", (16, 16, 3), "uint8")
    stored = bytearray(encode_chunk(block, 192))
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match="checksum"):
        decode_chunk(memoryview(bytes(stored)), np.empty_like(block), check=True)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_that_lie_about_themselves_are_an_error_or_wrong_pixels_never_a_crash(data: st.DataObject) -> None:
    block = block_of("smooth", (16, 16, 3), "uint8")
    stored = bytearray(encode_chunk(block, 192))
    for _ in range(data.draw(st.integers(1, 8))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    cut = stored[: data.draw(st.integers(0, len(stored)))]
    found = np.empty_like(block)
    try:
        decode_chunk(memoryview(bytes(cut)), found, check=False)
    except (ValueError, RuntimeError):
        return
    assert found.shape == block.shape


def test_a_chunk_of_another_size_is_refused() -> None:
    stored = encode_chunk(block_of("noise", (8, 8, 3), "uint8"), 3)
    with pytest.raises(ValueError, match="another size"):
        decode_chunk(memoryview(stored), np.empty((8, 9, 3), np.uint8), check=True)


@pytest.mark.parametrize(
    ("shape", "pixel_bytes", "element"),
    [
        ((128, 128, 3), 3, 192),
        ((128, 128, 3), 6, 192),
        ((128, 128), 1, 64),
        ((144, 104, 3), 3, 24),
        ((128, 100, 3), 3, 3),
        ((97, 161, 3), 3, 3),
    ],
)
def test_quick_elements_divide_the_rows(shape: tuple[int, ...], pixel_bytes: int, element: int) -> None:
    assert fast_element_bytes(shape, pixel_bytes) == element


def test_a_block_that_blosc2_would_spoil_is_kept_as_it_is() -> None:
    block = block_of("smooth", (97, 161, 3), "uint8")
    stored = encode_chunk(block, 192)
    found = np.empty_like(block)
    decode_chunk(memoryview(stored), found, check=True)
    np.testing.assert_array_equal(found, block)
    assert len(stored) > block.nbytes


def test_equal_chunks_are_equal_bytes(tmp_path: Path) -> None:
    block = block_of("noise", (128, 128, 3), "uint8")
    assert encode_chunk(block, 192) == encode_chunk(block.copy(), 192)
