"""Reads the detail bands of images, by which frames whose names do not tell their partner are compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.errors import ManifestError, RawError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.content_similarity import band_of
from sdd_toolkit.imaging.encoding import Encoding, decode
from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.storage.linked_stores import resolve_source, target_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.execution.progress import Track

_LONG_SIDE_PX = 768  # four times that of a band
_MIN_SIDE_PX = 32


@dataclass(frozen=True, slots=True)
class BandReader:
    """Reads the bands of the images of a data set.

    Attributes:
        root: Folder of the data set.
        executor: See `sdd_toolkit.execution.executor`.
        track: Shows progress.
        follow_links: See `listing.list_files`.
    """

    root: Path
    executor: str = "serial"
    track: Track = silent
    follow_links: bool = False

    def __call__(self, paths: Sequence[str]) -> dict[str, NDArray[np.int8] | None]:
        """The band of each image, by its path; None where it is too small, too flat or cannot be decoded."""
        bands: dict[str, NDArray[np.int8] | None] = {}
        with self.track("compare", len(paths)) as advance:
            work = partial(read_band, root=self.root, follow_links=self.follow_links)
            access = FileAccess((self.root, *target_folders(self.root, list(paths))))
            for outcome in run_tasks(work, paths, self.executor, access=access):
                bands[outcome.task] = outcome.result
                advance(note=outcome.task)
        return bands


def read_band(path: str, root: Path, *, follow_links: bool = False) -> NDArray[np.int8] | None:
    """The band of one image; runs in a worker.

    Args:
        path: The image, relative to `root`.
        root: Folder of the data set.
        follow_links: See `listing.list_files`.

    Returns:
        None if it is too small, too flat or cannot be decoded.
    """
    try:
        codes = read_image(resolve_source(root, path, follow_links=follow_links))
    except (RawError, ManifestError, OSError):
        return None
    if min(codes.shape[:2]) < _MIN_SIDE_PX:
        return None
    scale = min(_LONG_SIDE_PX / max(codes.shape[:2]), 1.0)
    height, width = (max(round(side * scale), 1) for side in codes.shape[:2])
    small = cv2.resize(codes, (width, height), interpolation=cv2.INTER_AREA)
    if codes.dtype == np.uint8:
        return band_of(luminance(decode(np.asarray(small, dtype=np.uint8), Encoding.SRGB8)))
    return band_of(luminance(decode(np.asarray(small, dtype=np.uint16), Encoding.SRGB16)))
