"""Robust statistics: Tukey's biweight and the scale of a normal distribution from its median absolute deviation.

Source: P. Huber and E. Ronchetti, Robust Statistics, 2nd ed., Wiley 2009, ch. 4.8 and 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Real = TypeVar("Real", np.float32, np.float64)

TUKEY = 4.685
"""Residual in standard deviations from which the biweight is 0: 95 % efficiency at the normal distribution."""
MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def biweight(squared: NDArray[Real]) -> NDArray[Real]:
    """Weights (1 - u²)² of Tukey's biweight, 0 beyond |u| = 1.

    Args:
        squared: u² of any shape, u = residual / (`TUKEY` σ).

    Returns:
        Weights in [0, 1] of the same shape and type.

    Example:
        >>> biweight(np.array([0.0, 0.5, 4.0]))
        array([1.  , 0.25, 0.  ])
    """
    # `minimum` by a scalar takes three times as long as `clip`.
    return np.asarray((1 - np.clip(squared, 0, 1)) ** 2, dtype=squared.dtype)


def biweight_loss(squared: NDArray[Real]) -> NDArray[Real]:
    """Loss 1 - (1 - u²)³ of Tukey's biweight as a share of its maximum, `TUKEY`² / 3 in units of σ².

    Args:
        squared: u² of any shape, as for `biweight`.

    Returns:
        Losses in [0, 1] of the same shape and type.
    """
    return np.asarray(1 - (1 - np.clip(squared, 0, 1)) ** 3, dtype=squared.dtype)
