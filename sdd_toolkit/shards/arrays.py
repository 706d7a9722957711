"""Creates, fills and reads single arrays of a shard, window by window, bypassing HDF5 where that is faster.

Contiguous data sets and the chunks of `blosc_chunks` are read from a memory map of the file; the checksum of a chunk is
verified the first time. All other arrays, and files that are not on a local disk, are read by h5py.
"""

from __future__ import annotations

import math
import mmap
from itertools import product
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 registers the filters
import numpy as np

from sdd_toolkit.shards import blosc_chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sdd_toolkit.shards.codecs import Codec

Window = tuple[tuple[int, int], ...]


def create_array(
    parent: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    codec: Codec,
    chunks: tuple[int, ...] | None,
    *,
    image: bool,
) -> h5py.Dataset:
    """Creates an empty data set with the filters of `codec`.

    Args:
        parent: Its group.
        name: Its name in the group.
        shape: Its shape; no side may be 0 unless `codec` has no chunks.
        dtype: Its type.
        codec: See `codecs`.
        chunks: Shape of the chunks; None: contiguous.
        image: Whether it is `blur` or `sharp`, not a mask or a flow.
    """
    filters = codec.images if image else codec.others
    return parent.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks, **(filters if chunks else {}))


def write_array(dataset: h5py.Dataset, array: NDArray[Any], codec: Codec, row: int | None = None) -> None:
    """Writes `array` (H, W, ...) into `dataset`: all of it, or row number `row` of its first axis."""
    values = array if row is None else array[None]
    if not codec.direct:
        dataset[... if row is None else slice(row, row + 1)] = values
        return
    chunks = dataset.chunks
    pixel_bytes = array.itemsize * math.prod(array.shape[2:])
    # A window of a frame touches many small chunks, so these must decode fast; patches are read whole and may be small.
    element = pixel_bytes if row is not None else blosc_chunks.fast_element_bytes(chunks, pixel_bytes)
    for corner in product(*(range(0, size, edge) for size, edge in zip(values.shape, chunks, strict=True))):
        part = values[tuple(slice(start, start + edge) for start, edge in zip(corner, chunks, strict=True))]
        if part.shape == chunks:
            block = np.ascontiguousarray(part)
        else:
            block = np.zeros(chunks, dataset.dtype)
            block[tuple(slice(size) for size in part.shape)] = part
        offset = corner if row is None else (row, *corner[1:])
        dataset.id.write_direct_chunk(offset, blosc_chunks.encode_chunk(block, element))


def map_file(file: h5py.File) -> memoryview | None:
    """A memory map of the file; None if it is no plain file on disk."""
    if file.driver != "sec2":
        return None
    return memoryview(mmap.mmap(file.id.get_vfd_handle(), 0, access=mmap.ACCESS_READ))


class StoredArray:
    """One data set of an open shard, read window by window.

    Args:
        dataset: The data set; its file must stay open.
        content: The file's bytes, see `map_file`.
    """

    __slots__ = ("_chunks", "_contiguous", "_dataset", "dtype", "shape")

    def __init__(self, dataset: h5py.Dataset, content: memoryview | None) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self._dataset = dataset
        self._contiguous: NDArray[Any] | None = None
        self._chunks: _MappedChunks | None = None
        if content is None:
            return
        offset = dataset.id.get_offset()
        if offset is not None:
            plain = np.frombuffer(content, self.dtype, math.prod(self.shape), offset)
            self._contiguous = plain.reshape(self.shape)
        elif _filter_ids(dataset) == blosc_chunks.FILTER_IDS and blosc_chunks.is_installed():
            self._chunks = _MappedChunks(dataset, content)

    def read(self, window: Window | None = None) -> NDArray[Any]:
        """A copy of a window.

        Args:
            window: (start, stop) of the first axes; all of the others is read.

        Raises:
            ValueError: The bytes are damaged; h5py and Blosc2 may raise other errors for the same reason.
        """
        first = window or ()
        limits = (*first, *((0, size) for size in self.shape[len(first) :]))
        if self._contiguous is not None:
            return np.array(self._contiguous[tuple(slice(*limit) for limit in limits)])
        if self._chunks is None:
            return np.asarray(self._dataset[tuple(slice(*limit) for limit in limits)])
        return self._chunks.read(limits)


class _MappedChunks:
    """The Blosc2 chunks of one data set in a memory-mapped file."""

    __slots__ = ("_checked", "_content", "_dataset", "_edges", "_extents")

    def __init__(self, dataset: h5py.Dataset, content: memoryview) -> None:
        self._dataset = dataset
        self._content = content
        self._edges: tuple[int, ...] = dataset.chunks
        self._extents: dict[tuple[int, ...], tuple[int, int]] = {}
        self._checked: set[tuple[int, ...]] = set()

    def read(self, limits: Sequence[tuple[int, int]]) -> NDArray[Any]:
        if not self._extents:
            # Deferred: HDF5 takes milliseconds to list chunks, and many shards are opened for their attributes only.
            self._dataset.id.chunk_iter(self._add_chunk)
        edges = self._edges
        window = np.empty(tuple(stop - start for start, stop in limits), self._dataset.dtype)
        if window.shape == edges and all(start % edge == 0 for (start, _), edge in zip(limits, edges, strict=True)):
            self._decode(tuple(start // edge for (start, _), edge in zip(limits, edges, strict=True)), window)
            return window
        block = np.empty(edges, self._dataset.dtype)
        axes = [_chunk_parts(start, stop, edge) for (start, stop), edge in zip(limits, edges, strict=True)]
        for pieces in product(*axes):
            self._decode(tuple(number for number, _, _ in pieces), block)
            window[tuple(target for _, target, _ in pieces)] = block[tuple(source for _, _, source in pieces)]
        return window

    def _decode(self, number: tuple[int, ...], block: NDArray[Any]) -> None:
        offset, size = self._extents[number]
        blosc_chunks.decode_chunk(self._content[offset : offset + size], block, check=number not in self._checked)
        self._checked.add(number)

    def _add_chunk(self, chunk: Any) -> None:
        if chunk.filter_mask:
            raise ValueError("a chunk was stored without its filters")
        number = tuple(start // edge for start, edge in zip(chunk.chunk_offset, self._edges, strict=True))
        self._extents[number] = (chunk.byte_offset, chunk.size)


def _filter_ids(dataset: h5py.Dataset) -> tuple[int, ...]:
    properties = dataset.id.get_create_plist()
    return tuple(properties.get_filter(number)[0] for number in range(properties.get_nfilters()))


def _chunk_parts(start: int, stop: int, edge: int) -> list[tuple[int, slice, slice]]:
    """(chunk number, slice of the window, slice of the chunk) along one axis."""
    pieces = []
    for number in range(start // edge, (stop - 1) // edge + 1):
        first, last = max(start, number * edge), min(stop, (number + 1) * edge)
        pieces.append((number, slice(first - start, last - start), slice(first - number * edge, last - number * edge)))
    return pieces
