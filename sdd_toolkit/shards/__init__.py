"""Reads and writes HDF5 shards of format 1: schema, writer, reader and index, as `docs/format.md` specifies them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "PackedPair": "schema",
    "Patch": "schema",
    "PatchReader": "patch_reader",
    "ShardReader": "reader",
    "write_patches": "patch_writer",
    "write_shard": "writer",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    # Reading an index must not cost importing h5py.
    if name in _PUBLIC:
        return getattr(import_module(f"sdd_toolkit.shards.{_PUBLIC[name]}"), name)
    raise AttributeError(name)
