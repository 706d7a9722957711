"""Reading shards, format 1: whole pairs, windows of them, patches."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict

import h5py
import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.develop import Encoding
from sdd_toolkit.development import PairDevelopment
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.files import inside, sha256_of
from sdd_toolkit.geometry import enlarge_flow
from sdd_toolkit.residual_flow import FLOW_FACTOR
from sdd_toolkit.shards.index import FORMAT, VERSION, ShardHeader, damaged, header_of, read_index, unknown_format
from sdd_toolkit.shards.schema import PackedPair, Patch, group_name
from sdd_toolkit.types import PairRecord, ShardInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN_SHARDS = 32
_RECORD = TypeAdapter(PairRecord)
_DEVELOPMENT = TypeAdapter(PairDevelopment)


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


class ShardReader:
    """Reads the pairs and patches of a folder of shards, or of one split of it.

    Files are opened when first needed and per process, so a reader can be pickled and survives a fork. One
    reader belongs to one thread at a time.

    Args:
        folder: Where `index.json` lies.
        split: Only this split; None means all.
        check: Compares the SHA-256 of every shard with the index when it is first opened: costs reading it once, and
            no damaged byte comes through. Without it only chunks have a checksum: HDF5 reads what its own structures
            say, and a flipped bit in them can end the process.

    Raises:
        InputError: No index, an unknown version, or no such split.
        IntegrityError: The index is damaged.
    """

    def __init__(self, folder: Path | str, split: str | None = None, *, check: bool = False) -> None:
        self.folder = Path(folder)
        self.split = split
        self.index = read_index(self.folder)
        present = sorted({shard.split for shard in self.index.shards})
        if split is not None and split not in present:
            raise InputError(f"{folder} has no split {split!r}", hint=f"splits: {', '.join(present)}")
        self.shards = tuple(shard for shard in self.index.shards if split in (None, shard.split))
        self._shard_of = {pair: shard for shard in self.shards for pair in shard.pairs}
        self._patches: tuple[Patch, ...] | None = None
        self._unchecked = {shard.name for shard in self.shards} if check else set[str]()
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
            file = open_shard(self.folder, shard, check=shard.name in self._unchecked)
            self._unchecked.discard(shard.name)
        while len(self._files) >= _OPEN_SHARDS:
            self._files.pop(next(iter(self._files))).close()
        self._files[shard.name] = file
        return file


def open_shard(folder: Path, shard: ShardInfo, *, check: bool = False) -> h5py.File:
    """Opens one shard for reading after checking its size and version and, if asked to, its SHA-256.

    Raises:
        IntegrityError: Missing, of another size than the index says, not HDF5, or outside the folder.
        InputError: The shard has an unknown format version.
    """
    try:
        path = inside(folder, shard.name)
        size = path.stat().st_size
        if size != shard.bytes:
            raise damaged(shard.name, f"{size} bytes, the index says {shard.bytes}")
        if check and sha256_of(path) != shard.sha256:
            raise damaged(shard.name, "its SHA-256 is not the one in the index")
        # Finished shards never change; file locks would only get in the way on shared or read-only disks.
        file = h5py.File(path, "r", locking=False)
    except (OSError, ManifestError) as error:
        raise damaged(shard.name, str(error)) from error
    found = tuple(np.asarray(file.attrs.get(name)).tolist() for name in ("format", "version"))
    if found != (FORMAT, VERSION):
        file.close()
        raise unknown_format(path, *found)
    return file
