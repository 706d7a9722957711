"""The ground floor: records, pixels, files and shards that every room shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdd_toolkit.index_table import iterate
    from sdd_toolkit.index_table import pairs_table as read_index

__version__ = "0.2.0"
__all__ = ["__version__", "iterate", "read_index"]


def __getattr__(name: str) -> Any:
    # Importing the package must not cost importing pandas and h5py.
    if name in ("iterate", "read_index"):
        from sdd_toolkit import index_table

        return index_table.iterate if name == "iterate" else index_table.pairs_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
