"""The tables of shards without their pixels: the records of pairs, the columns of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.shards.index import damaged
from sdd_toolkit.shards.reader import open_shard
from sdd_toolkit.shards.schema import group_name
from sdd_toolkit.types import PairRecord

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.types import ShardInfo

PATCH_COLUMNS = ("pair", "top", "left", "sharpness", "valid_fraction")
_RECORD = TypeAdapter(PairRecord)
_READ_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)


def hdf5_version() -> str:
    """The version of the HDF5 library."""
    return str(h5py.version.hdf5_version)


def records_in(folder: Path, shard: ShardInfo) -> list[tuple[PairRecord, tuple[int, int]]]:
    """The record and (height, width) of every pair of one shard, in reading order.

    Raises:
        IntegrityError: The shard is missing or damaged.
    """
    with open_shard(folder, shard) as file:
        try:
            found = []
            for name in shard.pairs:
                group = file[group_name(name)]
                height, width = group["valid"].shape
                found.append((_RECORD.validate_json(group.attrs["record"]), (int(height), int(width))))
            return found
        except _READ_ERRORS as error:
            raise damaged(shard.name, str(error)) from error


def patches_in(folder: Path, shard: ShardInfo) -> dict[str, NDArray[Any]]:
    """The columns of one shard's table of patches; `pair` holds texts.

    Raises:
        IntegrityError: The shard is missing or damaged.
    """
    with open_shard(folder, shard) as file:
        try:
            table = file["patches"]
            pairs = np.asarray(table["pair"].asstr()[:], dtype=object)
            return {"pair": pairs, **{name: table[name][:] for name in PATCH_COLUMNS[1:]}}
        except _READ_ERRORS as error:
            raise damaged(shard.name, str(error)) from error
