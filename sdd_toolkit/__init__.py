"""Core library of the toolkit: records, RAW reading, manifests, shards, reports and the stages between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from sdd_toolkit.shards.dataframes import iterate
    from sdd_toolkit.shards.dataframes import pairs_table as read_index

__all__ = ["__version__", "iterate", "read_index"]


def __getattr__(name: str) -> Any:
    # Late: importing the package must not import pandas and h5py.
    if name in ("iterate", "read_index"):
        from sdd_toolkit.shards import dataframes

        return dataframes.iterate if name == "iterate" else dataframes.pairs_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
