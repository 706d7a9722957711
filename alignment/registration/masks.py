"""User masks on the sharp frame: white pixels may be used for alignment, black ones are ignored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.decoding import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".png", ".tif", ".tiff")
_LOG = logging.getLogger(__name__)


def find_mask(masks: Path | None, pair_id: str) -> Path | None:
    """Path of a pair's mask: `masks` itself if it is a file, `masks/ID.png` (or .tif, .tiff) if it is a folder."""
    if masks is None or not masks.is_dir():
        return masks
    candidates = (masks / f"{pair_id}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def check_masks(masks: Path, pair_ids: Sequence[str]) -> None:
    """Warns of pairs without a mask.

    Args:
        masks: `--mask`, a file or a folder.
        pair_ids: All pairs of the manifest.

    Raises:
        InputError: There is no such file or folder, or the folder holds no mask of any of the pairs.
    """
    if not masks.exists():
        raise InputError(f"there is no mask {masks}", hint="check --mask")
    without = [name for name in pair_ids if find_mask(masks, name) is None]
    if not without:
        return
    if len(without) == len(pair_ids):
        raise InputError(
            f"{masks} holds no mask of any of the {len(pair_ids)} pairs",
            hint=f"name them after the pairs: {without[0]}.png",
        )
    _LOG.warning("%d of %d pairs have no mask in %s: %s", len(without), len(pair_ids), masks, ", ".join(without[:5]))


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Reads a mask at half size: where the frames may be compared.

    Args:
        path: PNG or TIFF; white is more than half of its range in every channel.
        size: (height, width) of the developed sharp frame. The mask has this size or half of it.

    Returns:
        (height / 2, width / 2) bool; a half-size pixel may be used if all four of its full-size pixels may.

    Raises:
        RawError: Missing or not an image.
        InputError: It has another size.
    """
    codes = read_image(path)
    white = codes.min(axis=-1) > np.iinfo(codes.dtype).max // 2
    height, width = size
    if white.shape == (height // 2, width // 2):
        return np.asarray(white, dtype=np.bool_)
    # Development crops an odd last row or column, which a mask painted on the photograph still has.
    even = white[: white.shape[0] // 2 * 2, : white.shape[1] // 2 * 2]
    if even.shape != (height, width):
        raise InputError(
            f"the mask {path} has {white.shape[1]}x{white.shape[0]} px, the frame {width}x{height} px",
            hint="paint it on the developed, upright sharp frame, at its size or half of it",
        )
    return np.asarray(even.reshape(height // 2, 2, width // 2, 2).all(axis=(1, 3)), dtype=np.bool_)
