"""Chunks from one HDF5 file to another as they are, neither decompressed nor compressed, and pairs outside a folder."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py

from sdd_toolkit.shards.index import damaged_shard_error
from sdd_toolkit.shards.reader import read_group, reuse_keys_of
from sdd_toolkit.shards.schema import PackedPair, Patch, ReuseKeys, group_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


def copy_array(source: h5py.Dataset, target: h5py.Dataset) -> None:
    """Fills the new, empty `target` with the chunks of `source`, in the order of their places.

    The order and the bytes are all that the layout of a file depends on: the same chunks give the same file, whether
    they were compressed just now or copied.

    Raises:
        ValueError: The two differ in type, shape, chunks or filters.
    """
    if _storage_layout(source) != _storage_layout(target):
        raise ValueError(f"{source.name}: {_storage_layout(source)}, expected {_storage_layout(target)}")
    if source.chunks is None:
        target[...] = source[...]
        return
    places: list[tuple[int, ...]] = []
    source.id.chunk_iter(lambda chunk: places.append(chunk.chunk_offset))
    for place in sorted(places):
        skipped_filters, content = source.id.read_direct_chunk(place)
        target.id.write_direct_chunk(place, content, skipped_filters)


def read_reuse_keys(path: Path, ids: Collection[str]) -> dict[str, tuple[ReuseKeys, tuple[int, int]]]:
    """What the shard at `path` keeps of those of its pairs that have marks, and their (height, width)."""
    found = {}
    with h5py.File(path, "r", locking=False) as file:
        for name in ids:
            group = file[group_name(name)]
            marks = reuse_keys_of(group)
            if marks is not None:
                height, width = group["valid"].shape
                found[name] = (marks, (int(height), int(width)))
    return found


def read_pair(path: Path, pair_id: str) -> PackedPair:
    """A whole pair of the shard at `path`, decompressed."""
    with open_pair(path, pair_id) as group:
        return read_group(group, pair_id)


def read_patches(path: Path, pair_id: str) -> tuple[Patch, ...]:
    """The patches of one pair of the shard at `path`."""
    with h5py.File(path, "r", locking=False) as file:
        table = file["patches"]
        rows = [row for row, name in enumerate(table["pair"].asstr()[:]) if name == pair_id]
        if not rows:
            return ()
        first, last = rows[0], rows[-1] + 1
        columns = [table[name][first:last].tolist() for name in ("top", "left", "sharpness", "valid_fraction")]
        if last - first != len(rows):
            raise damaged_shard_error(path.name, f"the patches of {pair_id!r} do not lie together")
        return tuple(Patch(pair_id, *row) for row in zip(*columns, strict=True))


@contextmanager
def open_pair(path: Path, pair_id: str) -> Iterator[h5py.Group]:
    """The group of a pair of the shard at `path`, open for reading."""
    with h5py.File(path, "r", locking=False) as file:
        yield file[group_name(pair_id)]


def _storage_layout(array: h5py.Dataset) -> tuple[object, ...]:
    created = array.id.get_create_plist()
    filters = tuple(created.get_filter(number)[0] for number in range(created.get_nfilters()))
    return array.dtype.str, array.shape, array.chunks, filters
