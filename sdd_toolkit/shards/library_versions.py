"""Versions of the libraries that decode, process and store pixels."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def library_versions() -> dict[str, str]:
    """The versions of the libraries that pixels go through, by name."""
    from sdd_toolkit.raw.libraw import libraw_version
    from sdd_toolkit.shards.tables import hdf5_version

    found = {"HDF5": hdf5_version(), "LibRaw": libraw_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


LIBRARIES = ("h5py", "hdf5plugin", "numpy", "opencv-python-headless", "rawpy", "tifffile")
