"""EXIF orientations as turns of an image: applied, composed and inverted.

An orientation 1 … 8 says how stored pixels are turned for display: 3 by 180 degrees, 6 clockwise, 8 anticlockwise,
2 and 4 mirrored, 5 and 7 transposed. Source: CIPA DC-008 (Exif 2.31), tag 274.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UPRIGHT = 1
ORIENTATIONS = range(1, 9)

# Whether rows and columns change places first, and whether rows, then columns, are reversed after that.
_OPERATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

ImageT = TypeVar("ImageT", bound="NDArray[Any]")


def turn_image(image: ImageT, orientation: int) -> ImageT:
    """Turns an (H, W) or (H, W, C) image as an EXIF orientation says.

    Example:
        >>> import numpy as np
        >>> from sdd_toolkit.imaging.orientation import turn_image
        >>> turn_image(np.array([[1, 2], [3, 4]]), 6).tolist()
        [[3, 1], [4, 2]]
    """
    transposed, down, across = _OPERATIONS[orientation]
    turned = image.swapaxes(0, 1) if transposed else image
    return cast("ImageT", np.ascontiguousarray(turned[:: -1 if down else 1, :: -1 if across else 1]))


def turn_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) of an image of `size` after the turn."""
    return (size[1], size[0]) if _OPERATIONS[orientation][0] else size


def invert_orientation(orientation: int) -> int:
    """The orientation that undoes another one."""
    return {6: 8, 8: 6}.get(orientation, orientation)


def compose_orientations(first: int, second: int) -> int:
    """The orientation that turns an image like `first`, then `second`.

    >>> compose_orientations(6, 6), compose_orientations(6, 8)
    (3, 1)
    """
    probe = np.arange(6).reshape(2, 3)
    both = turn_image(turn_image(probe, first), second)
    return next(code for code in ORIENTATIONS if np.array_equal(turn_image(probe, code), both))
