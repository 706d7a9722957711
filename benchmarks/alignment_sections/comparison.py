"""One pair with known truth, given to every aligner."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_sections.aligners import Aligner, Image, Matrix, installed_aligners
from benchmarks.alignment_sections.measurement import Measurement
from sdd_toolkit.imaging import geometry
from tests.support.planted_pairs import corner_error_px


@dataclass(frozen=True, slots=True)
class Case:
    """A pair with its truth.

    Attributes:
        blur: (H, W, 3) float32 linear RGB.
        sharp: The same of the sharp frame.
        homography: Blurred to sharp, in full-size pixels.
        scale: Full-size pixels per pixel of the frames.
    """

    blur: Image
    sharp: Image
    homography: Matrix
    scale: int = 1

    def error_px(self, found: Matrix) -> float:
        """Root mean square distance of the frame corners from where they belong, in full-size pixels."""
        height, width = self.blur.shape[:2]
        full = geometry.rescale_homography(found, float(self.scale))
        return corner_error_px(full, self.homography, (self.scale * height, self.scale * width))


def compare_aligners(section: str, group: str, name: str, case: Case, *, rivals: bool) -> list[Measurement]:
    """The corner error and the CPU seconds of every installed aligner, or of ours alone."""
    rows = []
    for method, aligner in installed_aligners(rivals=rivals).items():
        start = cpu_s()
        found = homography_or_none(aligner, case.blur, case.sharp)
        spent = cpu_s() - start
        error = math.nan if found is None else case.error_px(found)
        rows.append(Measurement(section, group, name, method, "corner_error_px", error))
        rows.append(Measurement(section, group, name, method, "cpu_s", spent))
    return rows


def homography_or_none(aligner: Aligner, blur: Image, sharp: Image) -> NDArray[np.float64] | None:
    """The homography of an aligner; None if it raises or returns one that is not finite."""
    try:
        found = aligner(blur, sharp)
    except Exception as error:
        print(f"{aligner.__name__}: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)
        return None
    usable = found is not None and np.isfinite(found).all() and abs(np.linalg.det(found)) > 1e-9
    return found if usable else None


def cpu_s() -> float:
    """CPU seconds of this process and of the programs it has run."""
    return sum(os.times()[:4])
