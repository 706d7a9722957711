"""The residual flow that `sdd align` stores: reads it, selects the part that is applied, and computes the remainder.

It lies on a quarter-size grid of the sharp frame (coarse pixel q covers 4q … 4q + 3), in full-size pixels,
u[warped blur→sharp]: content that the global transform alone brings to y belongs at y + u(y).
"""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.interpolation import Interpolation
from sdd_toolkit.imaging.resampling import invert_flow, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.lib.npyio import NpzFile
    from numpy.typing import NDArray

FLOW_FACTOR = 4
_NEIGHBOURS_SIGMA_PX = 4.0
_NO_EVIDENCE = 0.02
_MAX_BYTES_PER_CELL = 32  # two float64 and two more numbers
_HEADERS_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class ResidualFlow:
    """The motion that the global transform does not explain, on the quarter-size grid of the whole sharp frame.

    Attributes:
        flow: (h, w, 2) float32, full-size pixels.
        confidence: (h, w) float32, 0 … 1.
        occlusion: (h, w) bool, the blurred frame's content is hidden or out of the frame in the sharp one.
    """

    flow: NDArray[np.float32]
    confidence: NDArray[np.float32]
    occlusion: NDArray[np.bool_]

    @property
    def trust(self) -> NDArray[np.float32]:
        """(h, w) `confidence`, 0 where the content is occluded."""
        return _trust(self.confidence, self.occlusion)


def read_residual_flow(path: Path, size: tuple[int, int]) -> ResidualFlow:
    """Reads `flow/ID.npz`.

    Args:
        path: npz with `flow`, `confidence` (0 … 255; full if missing) and `occlusion` (none if missing).
        size: (height, width) of the sharp frame.

    Raises:
        InputError: Missing, damaged, not finite or of another size.
    """
    grid = _grid(size)
    with _open_archive(path, grid) as stored:
        flow = stored["flow"].astype(np.float32)
        if flow.shape != (*grid, 2) or not np.isfinite(flow).all():
            raise ValueError(f"{flow.shape}, expected finite values of {(*grid, 2)}")
        return ResidualFlow(flow, *_confidence(stored, grid))


def read_trust(path: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """Reads `ResidualFlow.trust` without the flow; arguments and errors as for `read_residual_flow`."""
    grid = _grid(size)
    with _open_archive(path, grid) as stored:
        return _trust(*_confidence(stored, grid))


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // FLOW_FACTOR), -(-size[1] // FLOW_FACTOR)


@contextmanager
def _open_archive(path: Path, grid: tuple[int, int]) -> Iterator[NpzFile]:
    """Opens the archive; whatever it raises, now or in the block, becomes an InputError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            _check_claims(stored, grid)
            yield stored
    # Raised by zipfile and zlib on damage, beside their own: an unknown method or flag, a password.
    except (
        *(OSError, KeyError, ValueError, EOFError, MemoryError, RuntimeError, AttributeError, TypeError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise InputError(
            f"{path.parent.name}/{path.name} holds no residual flow: {error}", hint="run `sdd align` again"
        ) from error


def _confidence(stored: NpzFile, grid: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    confidence = stored["confidence"] if "confidence" in stored else np.full(grid, 255, np.uint8)
    occlusion = stored["occlusion"] > 0 if "occlusion" in stored else np.zeros(grid, np.bool_)
    if not confidence.shape == occlusion.shape == grid:
        raise ValueError(f"a confidence of {confidence.shape}, an occlusion of {occlusion.shape}, expected {grid}")
    return confidence.astype(np.float32) / np.float32(255), occlusion


def _check_claims(stored: NpzFile, grid: tuple[int, int]) -> None:
    """Raises ValueError, before unpacking, if the archive unpacks to more than any flow of this size."""
    archive = stored.zip
    claimed = 0 if archive is None else sum(int(entry.file_size) for entry in archive.infolist())
    if claimed > _MAX_BYTES_PER_CELL * grid[0] * grid[1] + _HEADERS_BYTES:
        raise ValueError(f"it claims {claimed} bytes for {grid[0]} x {grid[1]} cells")


def halve_flow(residual: ResidualFlow) -> ResidualFlow:
    """Converts a flow to frames binned to half size: on the quarter-size grid of these, in their pixels.

    A coarse pixel is occluded if any of the four it replaces is.
    """
    rows, columns = (side % 2 for side in residual.confidence.shape)
    edges = ((0, rows), (0, columns))
    flow = np.pad(residual.flow, (*edges, (0, 0)), mode="edge")
    occlusion = np.pad(residual.occlusion, edges, mode="edge")
    hidden = occlusion[0::2, 0::2] | occlusion[0::2, 1::2] | occlusion[1::2, 0::2] | occlusion[1::2, 1::2]
    confidence = bin_2x2(np.pad(residual.confidence, edges, mode="edge"))
    return ResidualFlow(bin_2x2(flow) / np.float32(2), confidence, hidden)


def applicable_flow(residual: ResidualFlow) -> NDArray[np.float32]:
    """The flow to apply: the measured one where it is confident, that of confident neighbours elsewhere.

    It fades to zero, which leaves the global transform, where no neighbour within some 30 full-size pixels is
    confident. Normalised convolution (H. Knutsson and C.-F. Westin, CVPR 1993).

    Returns:
        (h, w, 2) float32, full-size pixels.
    """
    trust = residual.trust[..., None]
    around = _blur_over_neighbours(trust[..., 0])[..., None]
    neighbours = _blur_over_neighbours(trust * residual.flow) / (around + np.float32(_NO_EVIDENCE))
    return np.asarray(trust * residual.flow + (1 - trust) * neighbours, dtype=np.float32)


def move_with_flow(values: NDArray[np.float32], applied: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moves values of the coarse grid along with their pixels when a flow is applied.

    Args:
        values: (h, w[, C]).
        applied: (h, w, 2), full-size pixels: content at y moves to y + applied(y).
    """
    ys, xs = np.mgrid[0 : applied.shape[0], 0 : applied.shape[1]].astype(np.float64)
    x, y, _ = invert_flow(applied / np.float32(FLOW_FACTOR), xs, ys)
    return sample(values, x, y, Interpolation.LINEAR)


def _trust(confidence: NDArray[np.float32], occlusion: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(occlusion, np.float32(0), confidence)


def _blur_over_neighbours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _NEIGHBOURS_SIGMA_PX), dtype=np.float32)
