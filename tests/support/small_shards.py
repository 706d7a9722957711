"""Folders of one small shard of random pixels, written without the packing stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, ShardInfo
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.schema import DTYPE, PackedPair, Patch
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import sha256_of

SHARD = "train-00000-of-00001.h5"


def random_pair(name: str, height: int, width: int, encoding: Encoding = Encoding.SRGB8) -> PackedPair:
    rng = np.random.default_rng(height * 1000 + width)
    dtype = DTYPE[encoding]
    images = rng.integers(0, np.iinfo(dtype).max + 1, (2, height, width, 3)).astype(dtype)
    flow = rng.normal(size=(-(-height // 4), -(-width // 4), 2)).astype(np.float16).astype(np.float32)
    ref = FileRef("a.dng", 1, "0" * 64)
    record = PairRecord(name, "scene", PairKind.FOCUS, ref, ref, FrameMeta(make="Ä\n"), FrameMeta())
    return PackedPair(name, images[0], images[1], rng.random((height, width)) > 0.1, flow, record)


def write_folder(
    folder: Path, pairs: list[PackedPair], encoding: Encoding = Encoding.SRGB8, codec: str = "blosc2-bitshuffle-lz4"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SHARD
    rows = ((pair, [Patch(pair.id, 4, 8, 0.25, 1.0)]) for pair in pairs)
    ids, patches = write_shard(path, ShardHeader("train", encoding, 32, codec), rows)
    shard = ShardInfo(SHARD, "train", ids, patches, path.stat().st_size, sha256_of(path))
    splits = {"train": ("scene",)}
    write_index(folder, Index("x", encoding, TRANSFER[encoding], 32, codec, "0", "0", splits, (shard,)))
    return folder


def assert_equal(found: PackedPair, expected: PackedPair) -> None:
    for name in ("blur", "sharp", "valid", "flow"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.id, found.record) == (expected.id, expected.record)
