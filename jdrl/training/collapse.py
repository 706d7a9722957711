"""Notices a reblurring network that has collapsed: one that gives every pixel the same kernel for good."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

SPREAD_PX = 0.02  # standard deviation of the radius below which all kernels count as the same
MANY_STEPS = 200

_LOG = logging.getLogger(__name__)


def spread_px(mean_px: float, mean_square_px2: float) -> float:
    """The standard deviation of radii from their mean and mean square.

    >>> spread_px(4.0, 16.25)
    0.5
    """
    return math.sqrt(max(0.0, mean_square_px2 - mean_px**2))


@dataclass(slots=True)
class CollapseWatch:
    """Counts the steps in a row without a spread of the radius, and warns once when they are many.

    Attributes:
        steps: Steps in a row without a spread.
        has_warned: Whether the warning was given.
    """

    steps: int = 0
    has_warned: bool = False

    def look(self, radius_px: float, spreads_px: list[float]) -> None:
        """Takes note of the latest steps.

        Args:
            radius_px: Mean radius of their kernels.
            spreads_px: Standard deviation of the radius, of each of the steps.
        """
        for spread_px in spreads_px:
            self.steps = self.steps + 1 if spread_px < SPREAD_PX else 0
        if self.steps >= MANY_STEPS and not self.has_warned:
            self.has_warned = True
            _LOG.warning(
                "the reblurring network gives all pixels one kernel, of radius %.2f px, for %d steps now: unless the "
                "blur is the same everywhere it has collapsed, and blur maps of this run are worthless; lower [train] "
                "reblur_learning_rate",
                radius_px,
                self.steps,
            )
