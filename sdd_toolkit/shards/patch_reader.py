"""Reads the patch layout, format `sdd-patches` 1: finished training samples, one patch a row, one row a chunk."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import ShardInfo
from sdd_toolkit.shards.arrays import StoredArray
from sdd_toolkit.shards.conformance import conforming_rows, conforming_table
from sdd_toolkit.shards.file_cache import ShardCache
from sdd_toolkit.shards.index import read_index_as
from sdd_toolkit.shards.reader import open_shard, read_patch_table
from sdd_toolkit.shards.schema import ARRAYS, PATCH_FORMAT, Patch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PatchIndex:
    """The content of `index.json` of the patch layout; its fields have the meaning of those of `Index`.

    Attributes:
        source: The `sha256` of the index of pairs it was made from.
    """

    name: str
    encoding: Encoding
    transfer: str
    patch_size: int
    codec: str
    toolkit: str
    source: str
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPatch:
    """One row of the patch layout.

    Attributes:
        patch: Its position in its pair.
        blur: (H, W, 3) uint8 or uint16.
        sharp: (H, W, 3), the same type.
        valid: (H, W) bool.
        flow: (⌈H/4⌉, ⌈W/4⌉, 2) float32, residual flow at the centres of 4 x 4 pixels of the patch.
    """

    patch: Patch
    blur: NDArray[Any]
    sharp: NDArray[Any]
    valid: NDArray[np.bool_]
    flow: NDArray[np.float32]


_INDEX = TypeAdapter(PatchIndex)


def read_patch_index(folder: Path) -> PatchIndex:
    """Reads and validates the `index.json` of the patch layout.

    Raises:
        InputError: No index there, or one of another format (such as pairs) or version.
        IntegrityError: The index is damaged.
    """
    return read_index_as(folder, PATCH_FORMAT, _INDEX)


class PatchReader:
    """Reads the rows of a folder in the patch layout; processes and threads as with `ShardReader`.

    Args:
        folder: Folder with `index.json`.
        split: Only this split; None means all.

    Raises:
        InputError: No index, an unknown format or version, or no such split.
        IntegrityError: The index is damaged.

    Example:
        >>> from pathlib import Path
        >>> from sdd_toolkit.shards import PatchReader
        >>> with PatchReader(Path("patches")) as reader:
        ...     blur, sharp = reader.read_images(0)
        >>> len(reader), blur.shape == sharp.shape
        (2, True)
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self.folder = folder
        self.index = read_patch_index(folder)
        present = sorted({shard.split for shard in self.index.shards})
        if split is not None and split not in present:
            raise InputError(f"{folder} has no split {split!r}", hint=f"splits: {', '.join(present)}")
        self.shards = tuple(shard for shard in self.index.shards if split in (None, shard.split))
        self._first_rows = np.cumsum([0, *(shard.patches for shard in self.shards)])
        self._cache: ShardCache[StoredArray] = ShardCache(partial(open_shard, folder, kind=PATCH_FORMAT))
        self._patches: tuple[Patch, ...] | None = None

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The patch of every row, in order; the first use reads the columns of every shard."""
        if self._patches is None:
            self._patches = tuple(patch for shard in self.shards for patch in self.shard_patches(shard))
        return self._patches

    def shard_patches(self, shard: ShardInfo) -> tuple[Patch, ...]:
        """The patch of every row of one shard."""
        with self._cache.open(shard) as opened:
            return read_patch_table(conforming_table(opened.file))

    def read_images(self, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """`blur` and `sharp` of row `number`, each (H, W, 3).

        Raises:
            IndexError: No such row.
            IntegrityError: The shard is missing or damaged; names it.
        """
        blur, sharp = self._row(number, ("blur", "sharp"))
        return blur, sharp

    def read(self, number: int) -> StoredPatch:
        """All arrays of row `number`; errors as `read_images`."""
        blur, sharp, valid, flow = self._row(number, ("blur", "sharp", "valid", "flow"))
        patch = self.patches[number]
        return StoredPatch(patch, blur, sharp, valid.astype(np.bool_), flow.astype(np.float32))

    def _row(self, number: int, names: tuple[str, ...]) -> Iterator[NDArray[Any]]:
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        shard_number = int(np.searchsorted(self._first_rows, number, side="right")) - 1
        shard, row = self.shards[shard_number], number - int(self._first_rows[shard_number])
        with self._cache.open(shard) as opened:
            for name in names:
                if not opened.parts:
                    rows = conforming_rows(opened.file)
                    opened.parts.update({each: StoredArray(rows[each], opened.content) for each in ARRAYS})
                yield opened.parts[name].read(((row, row + 1),))[0]

    def close(self) -> None:
        """Closes the shards this process opened."""
        self._cache.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": copy(self._cache)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
