"""Writes one shard of format 1."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.shards.arrays import create_array, write_array
from sdd_toolkit.shards.codecs import CODECS
from sdd_toolkit.shards.index import ShardHeader, damaged_shard_error, header_attributes
from sdd_toolkit.shards.schema import ARRAYS, DTYPE, REUSE_ATTRIBUTES, PackedPair, Patch, StoredPair, group_name
from sdd_toolkit.shards.stored_patches import copy_array, open_pair
from sdd_toolkit.storage.files import DeferredErrorFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.shards.codecs import Codec

_PAIR_ATTRIBUTES = ("id", "record", "box", "development", *REUSE_ATTRIBUTES)
_SCRATCH_BYTES = 1 << 24


def write_shard(
    path: Path, header: ShardHeader, pairs: Iterable[tuple[PackedPair | StoredPair, Sequence[Patch]]]
) -> tuple[tuple[str, ...], int]:
    """Writes one whole shard to `path` (use with `files.replacing`); equal input is equal bytes.

    Pairs are taken from the iterable one at a time, so that only one is in memory. A `StoredPair` is copied chunk by
    chunk; the file is the same as if its arrays had been given.

    Returns:
        The ids written and the number of patches.

    Raises:
        OSError: The disk is full or the file cannot be written.
        IntegrityError: A stored pair was written with other chunks or filters.

    Example:
        >>> from pathlib import Path
        >>> from sdd_toolkit.shards import ShardReader, write_shard
        >>> with ShardReader("shards", "train") as reader:
        ...     pairs = [(reader.read(name), ()) for name in reader.pair_ids]
        ...     write_shard(Path("copy.h5"), reader.index.header("train"), pairs)
        (('scene/01',), 0)
    """
    ids: list[str] = []
    patches: list[Patch] = []
    with DeferredErrorFile(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=("earliest", "v110"), track_order=False) as file:
                file.attrs.update(header_attributes(header))
                file.create_group("pairs")
                for pair, its_patches in pairs:
                    group = file.create_group(group_name(pair.id))
                    if isinstance(pair, StoredPair):
                        _copy_pair(group, pair, header)
                    else:
                        _write_pair(group, pair, header)
                    ids.append(pair.id)
                    patches.extend(its_patches)
                    if sink.failure is not None:
                        break
                if sink.failure is None:
                    _write_patches(file.create_group("patches"), patches)
        finally:
            if sink.failure is not None:
                raise sink.failure
    return tuple(ids), len(patches)


def _write_pair(group: h5py.Group, pair: PackedPair, header: ShardHeader) -> None:
    codec = CODECS[header.codec]
    for name, array in _arrays_of(pair, header).items():
        if codec.direct or codec.chunk_px is None:
            write_array(_create_pair_array(group, name, array, codec), array, codec)
            continue
        # Compressed in memory and copied from there, as from a shard, so that both ways give the same file.
        with h5py.File("scratch", "w", driver="core", backing_store=False, block_size=_SCRATCH_BYTES) as scratch:
            compressed = _create_pair_array(scratch, name, array, codec)
            compressed[...] = array
            copy_array(compressed, _create_pair_array(group, name, array, codec))
    values: dict[str, object] = {"id": pair.id, "record": to_json(pair.record)}
    if pair.box is not None:
        values["box"] = np.array(pair.box, dtype=np.int32)
    if pair.development is not None:
        values["development"] = to_json(pair.development)
    if pair.reuse_keys is not None:
        values |= zip(REUSE_ATTRIBUTES, astuple(pair.reuse_keys), strict=True)
    _write_attributes(group, values)


def _copy_pair(group: h5py.Group, pair: StoredPair, header: ShardHeader) -> None:
    with open_pair(pair.path, pair.stored_id) as source:
        for name in ARRAYS:
            try:
                array = source[name]
                copy_array(array, _create_pair_array(group, name, array, CODECS[header.codec], array.chunks))
            except (KeyError, ValueError) as error:
                raise damaged_shard_error(pair.path.name, f"{pair.stored_id}: {error}") from error
        stored = {name: source.attrs[name] for name in _PAIR_ATTRIBUTES if name in source.attrs}
    _write_attributes(group, {**stored, "id": pair.id, "record": to_json(pair.record), "patching": pair.patching})


def _write_attributes(group: h5py.Group, values: Mapping[str, object]) -> None:
    """Writes the attributes of a pair in their fixed order, on which the bytes of the file depend."""
    for name in _PAIR_ATTRIBUTES:
        if values.get(name) is not None:
            group.attrs[name] = values[name]


def _arrays_of(pair: PackedPair, header: ShardHeader) -> Mapping[str, NDArray[Any]]:
    """The arrays of a pair by name, in the order of the file, their shapes and types checked."""
    height, width = pair.valid.shape
    quarter = (-(-height // FLOW_FACTOR), -(-width // FLOW_FACTOR), 2)
    dtype = DTYPE[header.encoding]
    for name, image in (("blur", pair.blur), ("sharp", pair.sharp)):
        if image.shape != (height, width, 3) or image.dtype != dtype:
            raise ValueError(f"{name}: {image.dtype} {image.shape}, expected {dtype} {(height, width, 3)}")
    if pair.flow.shape != quarter:
        raise ValueError(f"flow: {pair.flow.shape}, expected {quarter}")
    arrays = (pair.blur, pair.sharp, pair.valid.view(np.uint8), pair.flow.astype(np.float16))
    return dict(zip(ARRAYS, arrays, strict=True))


def _create_pair_array(
    group: h5py.Group,
    name: str,
    like: NDArray[Any] | h5py.Dataset,
    codec: Codec,
    chunks: tuple[int, ...] | None = None,
) -> h5py.Dataset:
    """An empty data set for an array of the shape and type of `like`; `chunks` are those of a stored one."""
    edge = codec.chunk_px
    if edge is None and chunks is not None:
        # The first uncompressed shards had chunks, too.
        return group.create_dataset(name, shape=like.shape, dtype=like.dtype, chunks=chunks, fletcher32=True)
    if chunks is None and edge is not None:
        chunks = (*(min(edge, size) for size in like.shape[:2]), *like.shape[2:])
    return create_array(group, name, like.shape, like.dtype, codec, chunks, image=name in ("blur", "sharp"))


def _write_patches(group: h5py.Group, patches: Sequence[Patch]) -> None:
    pairs = np.array([patch.pair for patch in patches], dtype=object)
    group.create_dataset("pair", data=pairs, dtype=h5py.string_dtype())
    for name in ("top", "left"):
        group.create_dataset(name, data=np.array([getattr(patch, name) for patch in patches], dtype=np.int32))
    for name in ("sharpness", "valid_fraction"):
        group.create_dataset(name, data=np.array([getattr(patch, name) for patch in patches], dtype=np.float64))
