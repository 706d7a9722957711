"""Versions of the libraries that decode, process and store pixels."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("h5py", "hdf5plugin", "numpy", "opencv-python-headless", "rawpy", "tifffile")


def library_versions() -> dict[str, str]:
    """The versions of the libraries that process pixels, by name."""
    from sdd_toolkit.raw.libraw import libraw_version
    from sdd_toolkit.shards.tables import hdf5_version

    versions = {"HDF5": hdf5_version(), "LibRaw": libraw_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))
