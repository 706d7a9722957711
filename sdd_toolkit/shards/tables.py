"""Reads the records of pairs and the columns of patches from shards, without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.records import PairRecord
from sdd_toolkit.shards.conformance import READ_ERRORS, conforming_pair, conforming_table
from sdd_toolkit.shards.index import damaged_shard_error
from sdd_toolkit.shards.reader import open_shard, reuse_keys_of

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import ShardInfo
    from sdd_toolkit.storage.locations import Location

PATCH_COLUMNS = ("pair", "top", "left", "sharpness", "valid_fraction")
_RECORD = TypeAdapter(PairRecord)


def hdf5_version() -> str:
    """The version of the HDF5 library."""
    return str(h5py.version.hdf5_version)


@dataclass(frozen=True, slots=True)
class PairRow:
    """The attributes of a pair that tables are made of.

    Attributes:
        record: Its line of the manifest.
        size: (height, width) of its arrays.
        perceptual_hash: Of its sharp frame; None in the first shards.
    """

    record: PairRecord
    size: tuple[int, int]
    perceptual_hash: str | None


def read_pair_rows(folder: Location, shard: ShardInfo) -> list[PairRow]:
    """A row for every pair of one shard, in reading order.

    Raises:
        IntegrityError: The shard is missing or damaged.
    """
    with open_shard(folder, shard) as file:
        try:
            rows = []
            for name in shard.pairs:
                group, arrays = conforming_pair(file, name)
                height, width = arrays["valid"].shape
                keys = reuse_keys_of(group)
                record = _RECORD.validate_json(group.attrs["record"])
                rows.append(PairRow(record, (int(height), int(width)), None if keys is None else keys.perceptual_hash))
            return rows
        except READ_ERRORS as error:
            raise damaged_shard_error(shard.name, str(error)) from error


def read_patch_columns(folder: Location, shard: ShardInfo) -> dict[str, NDArray[Any]]:
    """The columns of one shard's table of patches; `pair` holds texts.

    Raises:
        IntegrityError: The shard is missing or damaged.
    """
    with open_shard(folder, shard) as file:
        try:
            table = conforming_table(file)
            pairs = np.asarray(table["pair"].asstr()[:], dtype=object)
            return {"pair": pairs, **{name: table[name][:] for name in PATCH_COLUMNS[1:]}}
        except READ_ERRORS as error:
            raise damaged_shard_error(shard.name, str(error)) from error
