"""Storage profiles of a data set and their HDF5 settings: chunk size, filters, checksums."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import hdf5plugin

if TYPE_CHECKING:
    from collections.abc import Mapping


class Profile(StrEnum):
    """The purpose that a data set is stored for: fast training, small size, raw arrays, or no plugin."""

    FAST = "fast"
    SMALL = "small"
    RAW = "raw"
    PORTABLE = "portable"

    @property
    def codec(self) -> str:
        """Its codec, by the name in shards and in the index."""
        return _CODEC_OF[self]


@dataclass(frozen=True, slots=True)
class Codec:
    """The storage of arrays in a shard.

    Attributes:
        chunk_px: Edge of the chunks of a frame; None: contiguous, no chunks and no filters.
        images: Keyword arguments of `create_dataset` for `blur` and `sharp`.
        others: The same for masks and flows.
        direct: Whether chunks are encoded and decoded by `blosc_chunks` instead of HDF5's filters.
    """

    chunk_px: int | None
    images: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    direct: bool = False


_CODEC_OF = {
    Profile.FAST: "blosc2-bitshuffle-lz4",
    Profile.SMALL: "htj2k",
    Profile.RAW: "none",
    Profile.PORTABLE: "gzip",
}
_GZIP = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
_BLOSC2 = {
    **hdf5plugin.Blosc2(cname="lz4", clevel=9, filters=hdf5plugin.Blosc2.BITSHUFFLE),
    "fletcher32": True,
}
CODECS: Mapping[str, Codec] = {
    "blosc2-bitshuffle-lz4": Codec(128, _BLOSC2, _BLOSC2, direct=True),
    "htj2k": Codec(128, {**hdf5plugin.Htj2k(), "fletcher32": True}, _GZIP),
    "none": Codec(None),
    "gzip": Codec(256, _GZIP, _GZIP),
}
