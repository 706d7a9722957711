"""HDF5 shards, format 1: the writer, the reader and the schema. The only importer of h5py.

`docs/format.md` is the specification; what is written here and there must agree.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict

import h5py
import hdf5plugin
import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.develop import Encoding
from sdd_toolkit.development import PairDevelopment
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.files import Sink, inside
from sdd_toolkit.geometry import enlarge_flow
from sdd_toolkit.manifest import to_json
from sdd_toolkit.residual_flow import FLOW_FACTOR
from sdd_toolkit.shard_index import (
    FORMAT,
    VERSION,
    ShardHeader,
    attributes,
    damaged,
    header_of,
    read_index,
    unknown_format,
)
from sdd_toolkit.types import PairRecord, ShardInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

CHUNK_PX = 256
CODECS: Mapping[str, Mapping[str, Any]] = {
    "bitshuffle-lz4": {**hdf5plugin.Bitshuffle(cname="lz4")},
    "gzip": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "none": {},
}
DTYPE: Mapping[Encoding, type[np.uint8] | type[np.uint16]] = {
    Encoding.SRGB8: np.uint8,
    Encoding.SRGB16: np.uint16,
    Encoding.LINEAR16: np.uint16,
}
_OPEN_SHARDS = 32


@dataclass(frozen=True, slots=True, eq=False)
class PackedPair:
    """One pair as it lies in a shard, on the sharp frame's grid, cropped to where both frames are valid.

    Attributes:
        id: The pair's id in the manifest.
        blur: (H, W, 3) uint8 or uint16, encoded as the index says.
        sharp: (H, W, 3), the same type.
        valid: (H, W) bool: where `blur` holds resampled, not invented, pixels.
        flow: (h, w, 2) float32, residual u[blur→sharp] in full-size px: `sharp(x + flow(x))` looks like `blur(x)`.
            From `ShardReader.read`: quarter-size grid, coarse pixel q covers 4q … 4q + 3. From `read_window`: the
            window's own grid. With a `reduction` of 2 all pixels here are packed ones, those of the record twice
            as small.
        record: The pair's line of the manifest.
        box: (left, top, right, bottom), half open, of the whole pair on the sharp frame; None in the first shards.
        development: How the two frames were developed; None in the first shards.
    """

    id: str
    blur: NDArray[np.uint8] | NDArray[np.uint16]
    sharp: NDArray[np.uint8] | NDArray[np.uint16]
    valid: NDArray[np.bool_]
    flow: NDArray[np.float32]
    record: PairRecord
    box: tuple[int, int, int, int] | None = None
    development: PairDevelopment | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """One square window of a pair to train on; its size is the index's `patch_size`.

    Attributes:
        pair: The pair's id.
        top: First row.
        left: First column.
        sharpness: 0 … 1, how much fine detail the sharp frame has here compared with the pair's other patches.
        valid_fraction: Share of valid pixels.
    """

    pair: str
    top: int
    left: int
    sharpness: float
    valid_fraction: float


_RECORD = TypeAdapter(PairRecord)
_DEVELOPMENT = TypeAdapter(PairDevelopment)


def group_name(pair_id: str) -> str:
    """The HDF5 group of a pair. HDF5 reserves `/` and `.`, so these are written as in URLs (`%2F`, `%2E`)."""
    plain = pair_id.replace("%", "%25").replace("/", "%2F")
    return "pairs/" + (plain.replace(".", "%2E") if set(plain) == {"."} else plain)


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
    for name, array in values.items():
        chunks = (min(CHUNK_PX, array.shape[0]), min(CHUNK_PX, array.shape[1]), *array.shape[2:])
        group.create_dataset(name, data=array, chunks=chunks, fletcher32=True, **CODECS[header.codec])
    group.attrs["id"] = pair.id
    group.attrs["record"] = to_json(pair.record)
    if pair.box is not None:
        group.attrs["box"] = np.array(pair.box, dtype=np.int32)
    if pair.development is not None:
        group.attrs["development"] = to_json(pair.development)


class _Told(TypedDict):
    record: PairRecord
    box: tuple[int, int, int, int] | None
    development: PairDevelopment | None


def _told(group: h5py.Group) -> _Told:
    """What the attributes of a pair say; the first shards had fewer."""
    development = group.attrs.get("development")
    return {
        "record": _RECORD.validate_json(group.attrs["record"]),
        "box": _box(group),
        "development": None if development is None else _DEVELOPMENT.validate_json(development),
    }


def _box(group: h5py.Group) -> tuple[int, int, int, int] | None:
    if "box" not in group.attrs:
        return None
    left, top, right, bottom = (int(edge) for edge in group.attrs["box"])
    return left, top, right, bottom


def _write_patches(group: h5py.Group, patches: Sequence[Patch]) -> None:
    pairs = np.array([patch.pair for patch in patches], dtype=object)
    group.create_dataset("pair", data=pairs, dtype=h5py.string_dtype())
    for name in ("top", "left"):
        group.create_dataset(name, data=np.array([getattr(patch, name) for patch in patches], dtype=np.int32))
    for name in ("sharpness", "valid_fraction"):
        group.create_dataset(name, data=np.array([getattr(patch, name) for patch in patches], dtype=np.float64))


class ShardReader:
    """Reads the pairs and patches of a folder of shards, or of one split of it.

    Files are opened when first needed and per process, so a reader can be pickled and survives a fork. One
    reader belongs to one thread at a time.

    Args:
        folder: Where `index.json` lies.
        split: Only this split; None means all.

    Raises:
        InputError: No index, an unknown version, or no such split.
        IntegrityError: The index is damaged.
    """

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.folder = Path(folder)
        self.split = split
        self.index = read_index(self.folder)
        present = sorted({shard.split for shard in self.index.shards})
        if split is not None and split not in present:
            raise InputError(f"{folder} has no split {split!r}", hint=f"splits: {', '.join(present)}")
        self.shards = tuple(shard for shard in self.index.shards if split in (None, shard.split))
        self._shard_of = {pair: shard for shard in self.shards for pair in shard.pairs}
        self._patches: tuple[Patch, ...] | None = None
        self._files: dict[str, h5py.File] = {}
        self._process = os.getpid()

    @property
    def encoding(self) -> Encoding:
        """How pixel values stand for light."""
        return self.index.encoding

    @property
    def pair_ids(self) -> tuple[str, ...]:
        """The ids in reading order."""
        return tuple(self._shard_of)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """All patches in reading order; the first use reads every shard's table."""
        if self._patches is None:
            self._patches = tuple(patch for shard in self.shards for patch in self.shard_patches(shard))
        return self._patches

    def shard_patches(self, shard: ShardInfo) -> tuple[Patch, ...]:
        """The patches of one shard."""
        with self._reading(shard) as file:
            table = file["patches"]
            pairs = [str(value) for value in table["pair"].asstr()[:]]
            columns = [table[name][:].tolist() for name in ("top", "left", "sharpness", "valid_fraction")]
            return tuple(Patch(*row) for row in zip(pairs, *columns, strict=True))

    def header(self, shard: ShardInfo) -> ShardHeader:
        """What one shard says about itself."""
        with self._reading(shard) as file:
            return header_of(file.attrs)

    def groups(self, shard: ShardInfo) -> tuple[str, ...]:
        """The HDF5 groups of the pairs that lie in one shard, sorted."""
        with self._reading(shard) as file:
            return tuple(sorted(f"pairs/{name}" for name in file["pairs"]))

    def shape(self, pair_id: str) -> tuple[int, int]:
        """(H, W) of a pair."""
        with self._group(pair_id) as group:
            height, width = group["valid"].shape
            return int(height), int(width)

    def record(self, pair_id: str) -> PairRecord:
        """The pair's line of the manifest, without reading pixels."""
        with self._group(pair_id) as group:
            return _RECORD.validate_json(group.attrs["record"])

    def read(self, pair_id: str) -> PackedPair:
        """A whole pair; its flow stays on the quarter-size grid.

        Raises:
            InputError: No such pair in this reader's split.
            IntegrityError: The shard is missing or damaged; names it.
        """
        with self._group(pair_id) as group:
            return PackedPair(
                id=pair_id,
                blur=group["blur"][:],
                sharp=group["sharp"][:],
                valid=group["valid"][:].astype(np.bool_),
                flow=group["flow"][:].astype(np.float32),
                **_told(group),
            )

    def read_window(self, pair_id: str, top: int, left: int, height: int, width: int) -> PackedPair:
        """A window of a pair, reading only the chunks it touches; its flow is enlarged to (height, width, 2).

        Raises:
            ValueError: The window leaves the frame.
            InputError: No such pair in this reader's split.
            IntegrityError: The shard is missing or damaged; names it.
        """
        full = self.shape(pair_id)
        if not (0 <= top <= top + height <= full[0] and 0 <= left <= left + width <= full[1] and height and width):
            raise ValueError(f"window {(top, left, height, width)} leaves the frame {full} of {pair_id!r}")
        rows, columns = slice(top, top + height), slice(left, left + width)
        # One coarse pixel more on each side is all that bilinear enlargement looks at.
        first = (max(0, top // FLOW_FACTOR - 1), max(0, left // FLOW_FACTOR - 1))
        last = ((top + height - 1) // FLOW_FACTOR + 2, (left + width - 1) // FLOW_FACTOR + 2)
        with self._group(pair_id) as group:
            coarse = group["flow"][first[0] : last[0], first[1] : last[1]].astype(np.float32)
            window = (top - FLOW_FACTOR * first[0], left - FLOW_FACTOR * first[1], height, width)
            return PackedPair(
                id=pair_id,
                blur=group["blur"][rows, columns],
                sharp=group["sharp"][rows, columns],
                valid=group["valid"][rows, columns].astype(np.bool_),
                flow=enlarge_flow(coarse, FLOW_FACTOR, window),
                **_told(group),
            )

    def close(self) -> None:
        """Closes the shards this process opened; the reader can still be used and opens them again."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    @contextmanager
    def _group(self, pair_id: str) -> Iterator[h5py.Group]:
        shard = self._shard_of.get(pair_id)
        if shard is None:
            raise InputError(f"{self.folder} has no pair {pair_id!r}", hint="see pairs in index.json")
        with self._reading(shard) as file:
            yield file[group_name(pair_id)]

    @contextmanager
    def _reading(self, shard: ShardInfo) -> Iterator[h5py.File]:
        try:
            yield self._open(shard)
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise damaged(shard.name, str(error)) from error

    def _open(self, shard: ShardInfo) -> h5py.File:
        if self._process != os.getpid():
            self._process, self._files = os.getpid(), {}
        file = self._files.pop(shard.name, None)
        if file is None:
            file = open_shard(self.folder, shard)
        while len(self._files) >= _OPEN_SHARDS:
            self._files.pop(next(iter(self._files))).close()
        self._files[shard.name] = file
        return file


def open_shard(folder: Path, shard: ShardInfo) -> h5py.File:
    """Opens one shard for reading after checking its size and version.

    Raises:
        IntegrityError: Missing, of another size than the index says, not HDF5, or outside the folder.
        InputError: The shard has an unknown format version.
    """
    try:
        path = inside(folder, shard.name)
        size = path.stat().st_size
        if size != shard.bytes:
            raise damaged(shard.name, f"{size} bytes, the index says {shard.bytes}")
        # Finished shards never change; file locks would only get in the way on shared or read-only disks.
        file = h5py.File(path, "r", locking=False)
    except (OSError, ManifestError) as error:
        raise damaged(shard.name, str(error)) from error
    found = tuple(np.asarray(file.attrs.get(name)).tolist() for name in ("format", "version"))
    if found != (FORMAT, VERSION):
        file.close()
        raise unknown_format(path, *found)
    return file
