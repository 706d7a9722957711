"""Writing one shard, format 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sdd_toolkit.files import Sink
from sdd_toolkit.manifest import to_json
from sdd_toolkit.residual_flow import FLOW_FACTOR
from sdd_toolkit.shards.arrays import create, fill
from sdd_toolkit.shards.codecs import CODECS
from sdd_toolkit.shards.index import ShardHeader, attributes
from sdd_toolkit.shards.schema import DTYPE, PackedPair, Patch, group_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def write_shard(
    path: Path, header: ShardHeader, pairs: Iterable[tuple[PackedPair, Sequence[Patch]]]
) -> tuple[tuple[str, ...], int]:
    """Writes one whole shard to `path` (use with `files.replacing`); equal input is equal bytes.

    Pairs are taken from the iterable one at a time, so that no more than one is in memory.

    Returns:
        The ids written and the number of patches.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    ids: list[str] = []
    patches: list[Patch] = []
    with Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=("earliest", "v110"), track_order=False) as file:
                file.attrs.update(attributes(header))
                file.create_group("pairs")
                for pair, its_patches in pairs:
                    _write_pair(file.create_group(group_name(pair.id)), pair, header)
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
    height, width = pair.valid.shape
    quarter = (-(-height // FLOW_FACTOR), -(-width // FLOW_FACTOR), 2)
    dtype = DTYPE[header.encoding]
    for name, image in (("blur", pair.blur), ("sharp", pair.sharp)):
        if image.shape != (height, width, 3) or image.dtype != dtype:
            raise ValueError(f"{name}: {image.dtype} {image.shape}, expected {dtype} {(height, width, 3)}")
    if pair.flow.shape != quarter:
        raise ValueError(f"flow: {pair.flow.shape}, expected {quarter}")
    values: dict[str, NDArray[Any]] = {
        "blur": pair.blur,
        "sharp": pair.sharp,
        "valid": pair.valid.astype(np.uint8),
        "flow": pair.flow.astype(np.float16),
    }
    codec = CODECS[header.codec]
    for name, array in values.items():
        edge = codec.chunk_px
        chunks = None if edge is None else (min(edge, array.shape[0]), min(edge, array.shape[1]), *array.shape[2:])
        of_light = name in ("blur", "sharp")
        dataset = create(group, name, array.shape, array.dtype, codec, chunks, image=of_light)
        fill(dataset, array, codec)
    group.attrs["id"] = pair.id
    group.attrs["record"] = to_json(pair.record)
    if pair.box is not None:
        group.attrs["box"] = np.array(pair.box, dtype=np.int32)
    if pair.development is not None:
        group.attrs["development"] = to_json(pair.development)


def _write_patches(group: h5py.Group, patches: Sequence[Patch]) -> None:
    pairs = np.array([patch.pair for patch in patches], dtype=object)
    group.create_dataset("pair", data=pairs, dtype=h5py.string_dtype())
    for name in ("top", "left"):
        group.create_dataset(name, data=np.array([getattr(patch, name) for patch in patches], dtype=np.int32))
    for name in ("sharpness", "valid_fraction"):
        group.create_dataset(name, data=np.array([getattr(patch, name) for patch in patches], dtype=np.float64))
