"""Reads and copies the pairs and patches of a single shard file; chunks are copied without decoding."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdd_toolkit.shards.conformance import READ_ERRORS, conforming_pair, conforming_table, open_conforming
from sdd_toolkit.shards.index import damaged_shard_error
from sdd_toolkit.shards.reader import read_group, reuse_keys_of
from sdd_toolkit.shards.schema import PackedPair, Patch, ReuseKeys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import h5py

    from sdd_toolkit.shards.conformance import ShardFile


def copy_array(source: h5py.Dataset, target: h5py.Dataset) -> None:
    """Fills the new, empty `target` with the chunks of `source`, in the order of their offsets, without decoding.

    The layout of a file depends on nothing but the order and the bytes of its chunks: the same chunks give the same
    file, whether they were compressed just now or copied.

    Raises:
        ValueError: The two differ in type, shape, chunks or filters.
    """
    if _storage_layout(source) != _storage_layout(target):
        raise ValueError(f"{source.name}: {_storage_layout(source)}, expected {_storage_layout(target)}")
    if source.chunks is None:
        target[...] = source[...]
        return
    offsets: list[tuple[int, ...]] = []
    source.id.chunk_iter(lambda chunk: offsets.append(chunk.chunk_offset))
    for offset in sorted(offsets):
        skipped_filters, content = source.id.read_direct_chunk(offset)
        target.id.write_direct_chunk(offset, content, skipped_filters)


def read_reuse_keys(path: Path, ids: Collection[str]) -> dict[str, tuple[ReuseKeys, tuple[int, int]]]:
    """The fingerprints and (height, width) of those `ids` in the shard at `path` that have fingerprints."""
    keys_and_sizes = {}
    with _reading(path) as file:
        for name in ids:
            group, arrays = conforming_pair(file, name)
            keys = reuse_keys_of(group)
            if keys is not None:
                height, width = arrays["valid"].shape
                keys_and_sizes[name] = (keys, (int(height), int(width)))
    return keys_and_sizes


def read_pair(path: Path, pair_id: str) -> PackedPair:
    """A whole pair of the shard at `path`, decompressed."""
    with _reading(path) as file:
        return read_group(conforming_pair(file, pair_id)[0], pair_id)


def read_patches(path: Path, pair_id: str) -> tuple[Patch, ...]:
    """The patches of one pair of the shard at `path`."""
    with _reading(path) as file:
        table = conforming_table(file)
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
    """The group of a pair of the shard at `path`, checked and open for reading.

    Raises:
        IntegrityError: The shard is damaged, or holds what format 1 does not define.
    """
    with open_conforming(path) as file:
        try:
            group, _ = conforming_pair(file, pair_id)
        except READ_ERRORS as error:
            raise damaged_shard_error(path.name, f"{pair_id}: {error}") from error
        yield group


@contextmanager
def _reading(path: Path) -> Iterator[ShardFile]:
    """The open shard at `path`; errors of reading it become an `IntegrityError` that names it."""
    with open_conforming(path) as file:
        try:
            yield file
        except READ_ERRORS as error:
            raise damaged_shard_error(path.name, str(error)) from error


def _storage_layout(array: h5py.Dataset) -> tuple[object, ...]:
    created = array.id.get_create_plist()
    filters = tuple(created.get_filter(number)[0] for number in range(created.get_nfilters()))
    return array.dtype.str, array.shape, array.chunks, filters
