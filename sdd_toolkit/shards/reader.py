"""Reads shards of format 1: whole pairs, windows of pairs, and their patches."""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypedDict

import h5py
import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.imaging.geometry import enlarge_flow
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.raw.development import PairDevelopment
from sdd_toolkit.records import PairRecord, ShardInfo
from sdd_toolkit.shards.arrays import StoredArray, Window
from sdd_toolkit.shards.conformance import conforming_pair, conforming_table, open_conforming
from sdd_toolkit.shards.file_cache import ShardCache
from sdd_toolkit.shards.index import (
    FORMAT,
    ShardHeader,
    damaged_shard_error,
    header_of,
    read_index,
)
from sdd_toolkit.shards.schema import ARRAYS, REUSE_ATTRIBUTES, PackedPair, Patch, ReuseKeys
from sdd_toolkit.storage.files import resolve_inside, sha256_of
from sdd_toolkit.storage.locations import Location, parse_location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sdd_toolkit.shards.conformance import ShardFile
    from sdd_toolkit.shards.index import Index

_RECORD = TypeAdapter(PairRecord)
_DEVELOPMENT = TypeAdapter(PairDevelopment)


@dataclass(frozen=True, slots=True)
class _StoredPair:
    """A pair of an open shard: its four arrays and its attributes."""

    blur: StoredArray
    sharp: StoredArray
    valid: StoredArray
    flow: StoredArray
    attributes: _PairAttributes


class _PairAttributes(TypedDict):
    record: PairRecord
    box: tuple[int, int, int, int] | None
    development: PairDevelopment | None
    reuse_keys: ReuseKeys | None


def reuse_keys_of(group: h5py.Group) -> ReuseKeys | None:
    """The fingerprints of a stored pair; None in the first shards, which have none."""
    if not all(name in group.attrs for name in REUSE_ATTRIBUTES):
        return None
    return ReuseKeys(*(str(group.attrs[name]) for name in REUSE_ATTRIBUTES))


def read_patch_table(table: h5py.Group, pairs: str = "pair") -> tuple[Patch, ...]:
    """The rows of a table of patches, in their order."""
    ids = [str(value) for value in table[pairs].asstr()[:]]
    columns = [table[name][:].tolist() for name in ("top", "left", "sharpness", "valid_fraction")]
    return tuple(Patch(*row) for row in zip(ids, *columns, strict=True))


def read_group(group: h5py.Group, pair_id: str) -> PackedPair:
    """The whole pair of a group; its flow stays on the quarter-size grid."""
    return PackedPair(
        id=pair_id,
        blur=group["blur"][:],
        sharp=group["sharp"][:],
        valid=group["valid"][:].astype(np.bool_),
        flow=group["flow"][:].astype(np.float32),
        **_read_attributes(group),
    )


def _read_attributes(group: h5py.Group) -> _PairAttributes:
    """The attributes of a pair; the first shards have fewer."""
    development = group.attrs.get("development")
    return {
        "record": _RECORD.validate_json(group.attrs["record"]),
        "box": _box(group),
        "development": None if development is None else _DEVELOPMENT.validate_json(development),
        "reuse_keys": reuse_keys_of(group),
    }


def _box(group: h5py.Group) -> tuple[int, int, int, int] | None:
    if "box" not in group.attrs:
        return None
    left, top, right, bottom = (int(edge) for edge in group.attrs["box"])
    return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class PairFacts:
    """The attributes of a pair, without its pixels; see `PackedPair`."""

    record: PairRecord
    box: tuple[int, int, int, int] | None
    development: PairDevelopment | None


@dataclass(frozen=True, slots=True)
class PairOutline:
    """The attributes of a pair and the types of its arrays, read without decoding any.

    Attributes:
        perceptual_hash: Of its sharp frame; None in the first shards.
        arrays: Type and shape of `blur`, `sharp`, `valid` and `flow`.
    """

    record: PairRecord
    box: tuple[int, int, int, int] | None
    perceptual_hash: str | None
    arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class ShardReader:
    """Reads the pairs and patches of a folder of shards, or of one split of it.

    Files are opened on first use and per process, so a reader can be pickled and survives a fork. The attributes of a
    pair are cached while its shard is open. A reader is not thread-safe: give every thread its own;
    `copy.copy(reader)` makes one without reading the index again.

    Args:
        folder: Folder with `index.json`.
        split: Only this split; None means all.
        check: Compares the SHA-256 of every shard with the index when it is first opened, which reads the file once
            and detects any damaged byte. Without it only chunks have a checksum: HDF5 trusts its own structures, and
            a flipped bit in them can crash the process.
        index: That of a finished set whose `index.json` is not written yet; None reads the file.

    Raises:
        InputError: No index, an unknown version, or no such split.
        IntegrityError: The index is damaged.

    Example:
        >>> from sdd_toolkit.shards import ShardReader
        >>> with ShardReader("shards", split="train") as reader:
        ...     patch = reader.patches[0]
        ...     blur, sharp = reader.read_images(patch.pair, patch.top, patch.left, 16, 16)
        >>> patch.pair, blur.shape, blur.dtype
        ('scene/01', (16, 16, 3), dtype('uint8'))
    """

    def __init__(
        self, folder: Location | str, split: str | None = None, *, check: bool = False, index: Index | None = None
    ) -> None:
        self.folder = parse_location(folder)
        self.split = split
        self.index = read_index(self.folder) if index is None else index
        present = sorted({shard.split for shard in self.index.shards})
        if split is not None and split not in present:
            raise InputError(f"{folder} has no split {split!r}", hint=f"splits: {', '.join(present)}")
        self.shards = tuple(shard for shard in self.index.shards if split in (None, shard.split))
        self._shard_of = {pair: shard for shard in self.shards for pair in shard.pairs}
        self._patches: tuple[Patch, ...] | None = None
        self._cache: ShardCache[_StoredPair] = ShardCache(partial(open_shard, self.folder, check=check))

    @property
    def encoding(self) -> Encoding:
        """Encoding of the pixel values."""
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
        with self._cache.open(shard) as opened:
            return read_patch_table(conforming_table(opened.file))

    def header(self, shard: ShardInfo) -> ShardHeader:
        """The file attributes of one shard."""
        with self._cache.open(shard) as opened:
            return header_of(opened.file.attrs)

    def groups(self, shard: ShardInfo) -> tuple[str, ...]:
        """The HDF5 groups of the pairs in one shard, sorted."""
        with self._cache.open(shard) as opened:
            return tuple(sorted(f"pairs/{name}" for name in opened.file["pairs"]))

    def shape(self, pair_id: str) -> tuple[int, int]:
        """(H, W) of a pair."""
        with self._open_pair(pair_id) as pair:
            height, width = pair.valid.shape
            return height, width

    def record(self, pair_id: str) -> PairRecord:
        """The pair's line of the manifest, without reading pixels."""
        with self._open_pair(pair_id) as pair:
            return pair.attributes["record"]

    def reuse_keys(self, pair_id: str) -> ReuseKeys | None:
        """The fingerprints of the pair, without reading pixels; None in the first shards."""
        with self._open_pair(pair_id) as pair:
            return pair.attributes["reuse_keys"]

    def facts(self, pair_id: str) -> PairFacts:
        """The record, crop box and development of a pair, without reading pixels."""
        with self._open_pair(pair_id) as pair:
            return PairFacts(pair.attributes["record"], pair.attributes["box"], pair.attributes["development"])

    def outline(self, pair_id: str) -> PairOutline:
        """The attributes of a pair and the types of its arrays, without reading pixels."""
        with self._open_pair(pair_id) as pair:
            attributes, keys = pair.attributes, pair.attributes["reuse_keys"]
            arrays = {name: getattr(pair, name) for name in ARRAYS}
            types = {name: (array.dtype, array.shape) for name, array in arrays.items()}
            sharp_hash = None if keys is None else keys.perceptual_hash
            return PairOutline(attributes["record"], attributes["box"], sharp_hash, types)

    def perceptual_hash(self, pair_id: str) -> str | None:
        """The perceptual hash of the pair's sharp frame; None in the first shards."""
        keys = self.reuse_keys(pair_id)
        return None if keys is None else keys.perceptual_hash

    def read(self, pair_id: str) -> PackedPair:
        """A whole pair; its flow stays on the quarter-size grid.

        Raises:
            InputError: No such pair in this reader's split.
            IntegrityError: The shard is missing or damaged; names it.
        """
        with self._open_pair(pair_id) as pair:
            return PackedPair(
                id=pair_id,
                blur=pair.blur.read(),
                sharp=pair.sharp.read(),
                valid=pair.valid.read().astype(np.bool_),
                flow=pair.flow.read().astype(np.float32),
                **pair.attributes,
            )

    def split_of(self, pair_id: str) -> str:
        """The split of a pair, from the index."""
        return self._shard(pair_id).split

    def read_flow(self, pair_id: str) -> NDArray[np.float32]:
        """The whole flow of a pair on its quarter-size grid.

        Raises:
            InputError: No such pair in this reader's split.
            IntegrityError: The shard is missing or damaged; names it.
        """
        with self._open_pair(pair_id) as pair:
            return pair.flow.read().astype(np.float32)

    def read_images(
        self, pair_id: str, top: int, left: int, height: int, width: int
    ) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], NDArray[np.uint8] | NDArray[np.uint16]]:
        """`blur` and `sharp` of a window, each (height, width, 3); nothing else is read.

        Raises:
            ValueError: The window leaves the frame.
            InputError: No such pair in this reader's split.
            IntegrityError: The shard is missing or damaged; names it.
        """
        window = self._window(pair_id, top, left, height, width)
        with self._open_pair(pair_id) as pair:
            return pair.blur.read(window), pair.sharp.read(window)

    def read_window(self, pair_id: str, top: int, left: int, height: int, width: int) -> PackedPair:
        """A window of a pair, reading only the chunks it touches; its flow is enlarged to (height, width, 2).

        Raises:
            ValueError: The window leaves the frame.
            InputError: No such pair in this reader's split.
            IntegrityError: The shard is missing or damaged; names it.
        """
        window = self._window(pair_id, top, left, height, width)
        with self._open_pair(pair_id) as pair:
            # Bilinear enlargement reads one coarse pixel more on each side.
            coarse = tuple(
                (max(0, start // FLOW_FACTOR - 1), min(size, (stop - 1) // FLOW_FACTOR + 2))
                for (start, stop), size in zip(window, pair.flow.shape, strict=False)
            )
            (first_row, _), (first_column, _) = coarse
            flow_window = (top - FLOW_FACTOR * first_row, left - FLOW_FACTOR * first_column, height, width)
            return PackedPair(
                id=pair_id,
                blur=pair.blur.read(window),
                sharp=pair.sharp.read(window),
                valid=pair.valid.read(window).astype(np.bool_),
                flow=enlarge_flow(pair.flow.read(coarse).astype(np.float32), FLOW_FACTOR, flow_window),
                **pair.attributes,
            )

    def _window(self, pair_id: str, top: int, left: int, height: int, width: int) -> Window:
        full = self.shape(pair_id)
        if not (0 <= top <= top + height <= full[0] and 0 <= left <= left + width <= full[1] and height and width):
            raise ValueError(f"window {(top, left, height, width)} leaves the frame {full} of {pair_id!r}")
        return (top, top + height), (left, left + width)

    def close(self) -> None:
        """Closes the shards this process opened; the reader can still be used and opens them again."""
        self._cache.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": copy(self._cache)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _shard(self, pair_id: str) -> ShardInfo:
        shard = self._shard_of.get(pair_id)
        if shard is None:
            raise InputError(f"{self.folder} has no pair {pair_id!r}", hint="see pairs in index.json")
        return shard

    @contextmanager
    def _open_pair(self, pair_id: str) -> Iterator[_StoredPair]:
        shard = self._shard(pair_id)
        with self._cache.open(shard) as opened:
            pair = opened.parts.get(pair_id)
            if pair is None:
                group, stored = conforming_pair(opened.file, pair_id)
                arrays = {key: StoredArray(stored[key], opened.content) for key in ARRAYS}
                pair = opened.parts[pair_id] = _StoredPair(**arrays, attributes=_read_attributes(group))
            yield pair


def open_shard(folder: Location, shard: ShardInfo, kind: str = FORMAT, *, check: bool = False) -> ShardFile:
    """Opens one shard of format `kind` for reading and checks its size, its version and, with `check`, its SHA-256.

    Raises:
        IntegrityError: Missing, of another size than the index says, outside the folder, not HDF5, or with objects that
            format 1 does not define.
        InputError: The shard has an unknown format version or codec.
    """
    try:
        path = resolve_inside(folder, shard.name)
        size = path.stat().st_size
        if size != shard.bytes:
            raise damaged_shard_error(shard.name, f"{size} bytes, the index says {shard.bytes}")
        if check and sha256_of(path) != shard.sha256:
            raise damaged_shard_error(shard.name, "its SHA-256 is not the one in the index")
    except (OSError, ManifestError) as error:
        raise damaged_shard_error(shard.name, str(error)) from error
    return open_conforming(path, kind)
