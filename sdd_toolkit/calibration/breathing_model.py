"""Focus breathing: a robust fit of the magnification of a lens against its focus position.

The image of a scene is magnified in proportion to the image distance. For a thin lens of focal length f focused at
the distance s (E. Hecht, Optics, 5th ed., ch. 5.2), with the focus position δ = 1/s in dioptres (1/m),

    m(δ) ∝ v = f s / (s - f) ∝ 1 / (1 - f δ),        ln m(δ) = f δ + (f δ)² / 2 + …

A real lens that focuses by moving inner groups changes its focal length as well and may breathe less, or in the
opposite direction. Its ln m is still smooth in δ, so a polynomial that vanishes at infinity is fitted:

    ln m(δ) = c₁ δ [+ c₂ δ² [+ c₃ δ³]],        zoom, blurred to sharp = m(δ_sharp) / m(δ_blur)

Each pair gives one equation that is linear in c. They are solved by iteratively reweighted least squares: least
absolute deviations first, then Tukey's biweight (Huber, Ronchetti, Robust Statistics, 2nd ed., ch. 7), which ignores
outliers. The scatter, variation that a lens and its EXIF do not repeat, adds to each pair's own deviation as in the
random-effects model of Paule and Mandel (J. Res. NBS 87, 1982); its size comes from the median absolute deviation.
The Bayesian information criterion selects the number of coefficients, and never because of a single pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.robust import MAD_TO_SIGMA, TUKEY, biweight, biweight_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_PAIRS = 5
PAIRS_PER_COEFFICIENT = 2.5
MAX_ORDER = 3
MIN_FOCUS_CHANGE_DPT = 0.005
_MIN_DEVIATION = 1e-6  # of ln zoom: no registration is better, and deviations divide
_EXTRAPOLATED = 0.5  # standard deviation of a change of ln m outside the fitted range, relative to itself
_ITERATIONS = 60
# Powers can be separated only if the focus positions do not lie on few points.
_MAX_CONDITION = 1e3


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured pair of one lens.

    Attributes:
        focus_blur_m: Distance the blurred frame was focused at, metres; infinity is `math.inf`.
        focus_sharp_m: The same of the sharp frame.
        zoom: Magnification blurred to sharp.
        deviation: Standard deviation of `zoom`.
    """

    focus_blur_m: float
    focus_sharp_m: float
    zoom: float
    deviation: float


@dataclass(frozen=True, slots=True)
class BreathingModel:
    """ln m(δ) = c₁ δ + c₂ δ² + c₃ δ³ of one lens at one focal length.

    Attributes:
        coefficients: (c₁, …), one to three; cₙ in metres to the power of n.
        covariance: Covariance of the coefficients.
        scatter: Standard deviation of ln zoom beyond the pairs' own deviations.
        count: Number of pairs fitted.
        outliers: Number of these pairs without any weight.
        range_dpt: (low, high) focus positions of the pairs with weight, dioptres.
    """

    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    scatter: float
    count: int
    outliers: int
    range_dpt: tuple[float, float]

    def __post_init__(self) -> None:
        order = len(self.coefficients)
        numbers = [*self.coefficients, *(entry for row in self.covariance for entry in row), self.scatter]
        if not 1 <= order <= MAX_ORDER or [len(row) for row in self.covariance] != [order] * order:
            raise ValueError(f"{order} coefficients and a covariance of {len(self.covariance)} rows")
        if not all(map(math.isfinite, numbers)) or self.scatter < 0:
            raise ValueError("numbers must be finite, the scatter not negative")
        if not 0 <= self.range_dpt[0] < self.range_dpt[1] < math.inf:
            raise ValueError(f"a range of {self.range_dpt[0]} to {self.range_dpt[1]} dioptres")

    @property
    def zoom_per_dioptre(self) -> float:
        """Relative change of magnification for one dioptre of nearer focus, on average over the fitted range."""
        low, high = self.range_dpt
        return (log_magnification(self, high) - log_magnification(self, low)) / (high - low)


@dataclass(frozen=True, slots=True)
class ZoomPrior:
    """The expected zoom of a pair, blurred to sharp, and its standard deviation."""

    zoom: float
    deviation: float


def dioptres(focus_m: float) -> float:
    """The focus position 1/s in dioptres; 0 at infinity.

    Raises:
        ValueError: The distance is not positive.

    Example:
        >>> dioptres(2.0), dioptres(math.inf)
        (0.5, 0.0)
    """
    if not focus_m > 0:
        raise ValueError(f"a focus distance of {focus_m} m")
    return 1.0 / focus_m


def log_magnification(model: BreathingModel, focus_dpt: float) -> float:
    """ln m at a focus position in dioptres, relative to focus at infinity."""
    return float(sum(c * focus_dpt**power for power, c in enumerate(model.coefficients, 1)))


def fit_breathing(observations: Sequence[Observation]) -> BreathingModel:
    """Fits the breathing of one lens at one focal length, robust to a minority of wrong pairs.

    Raises:
        InputError: Too few pairs, or pairs between whose frames the focus did not move.
        ValueError: An impossible observation: a zoom or distance that is not positive, a negative deviation.

    Example:
        >>> pairs = [Observation(s, 2.0, math.exp(0.05 * (1 / 2.0 - 1 / s)), 1e-5) for s in (0.5, 0.7, 1, 3, 8)]
        >>> model = fit_breathing(pairs)
        >>> round(model.coefficients[0], 4), model.outliers
        (0.05, 0)
    """
    moved = [entry for entry in observations if abs(_change_dpt(entry)) >= MIN_FOCUS_CHANGE_DPT]
    if len(moved) < MIN_PAIRS:
        raise InputError(
            f"{len(moved)} of {len(observations)} pairs have frames focused differently, {MIN_PAIRS} are needed",
            hint=f"use focus pairs whose EXIF holds focus distances, {MIN_FOCUS_CHANGE_DPT} dioptres apart or more",
        )
    blur, sharp, zoom, deviation = _columns(moved)
    log_zoom, own = np.log(zoom), np.maximum(deviation / zoom, _MIN_DEVIATION)
    designs = [
        np.column_stack([sharp**power - blur**power for power in range(1, order + 1)])
        for order in range(1, min(MAX_ORDER, int(len(moved) / PAIRS_PER_COEFFICIENT)) + 1)
    ]
    designs = [design for design in designs if _is_well_conditioned(design)]
    total = np.hypot(own, _scatter(designs[-1], log_zoom, own))
    design = _select_order(designs, log_zoom, total)
    scatter = _scatter(design, log_zoom, own)
    total = np.hypot(own, scatter)
    coefficients, weights, covariance = _fit_biweight(design / total[:, None], log_zoom / total)
    counted = weights > 0
    ends = np.concatenate([blur[counted], sharp[counted]])
    return BreathingModel(
        coefficients=tuple(coefficients.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        scatter=scatter,
        count=len(moved),
        outliers=int(np.count_nonzero(~counted)),
        range_dpt=(float(ends.min()), float(ends.max())),
    )


def predict_zoom(model: BreathingModel, focus_blur_m: float, focus_sharp_m: float) -> ZoomPrior:
    """Predicts the zoom of a pair; its deviation holds those of the fit, the scatter and any extrapolation.

    Args:
        model: The model of the lens at the focal length of the pair.
        focus_blur_m: Focus distance of the blurred frame, metres; infinity is `math.inf`.
        focus_sharp_m: The same of the sharp frame.

    Raises:
        ValueError: A distance is not positive.
    """
    blur, sharp = dioptres(focus_blur_m), dioptres(focus_sharp_m)
    powers = np.arange(1, len(model.coefficients) + 1)
    row = sharp**powers - blur**powers
    variance = float(row @ np.array(model.covariance) @ row) + model.scatter**2 + _MIN_DEVIATION**2
    for position in (blur, sharp):
        within = min(max(position, model.range_dpt[0]), model.range_dpt[1])
        beyond = log_magnification(model, position) - log_magnification(model, within)
        variance += (_EXTRAPOLATED * beyond) ** 2
    zoom = math.exp(log_magnification(model, sharp) - log_magnification(model, blur))
    return ZoomPrior(zoom=zoom, deviation=zoom * math.sqrt(variance))


def _change_dpt(entry: Observation) -> float:
    return dioptres(entry.focus_sharp_m) - dioptres(entry.focus_blur_m)


def _columns(observations: Sequence[Observation]) -> NDArray[np.float64]:
    """(4, N): focus of the blurred and the sharp frame in dioptres, zoom, its deviation."""
    rows = [
        (dioptres(entry.focus_blur_m), dioptres(entry.focus_sharp_m), entry.zoom, entry.deviation)
        for entry in observations
    ]
    columns = np.array(rows, dtype=np.float64).T
    if not (np.isfinite(columns).all() and (columns[2] > 0).all() and (columns[3] >= 0).all()):
        raise ValueError("zooms must be positive, deviations not negative, both finite")
    return columns


def _is_well_conditioned(design: NDArray[np.float64]) -> bool:
    scaled = design / np.linalg.norm(design, axis=0).clip(min=1e-300)
    return bool(np.linalg.cond(scaled) < _MAX_CONDITION)


def _least_absolute_deviations(design: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of least absolute residuals, by reweighting."""
    weights = np.ones(len(target))
    coefficients = np.zeros(design.shape[1])
    for _ in range(_ITERATIONS):
        coefficients = _weighted_least_squares(design, target, weights)
        residual = np.abs(target - design @ coefficients)
        weights = 1.0 / np.maximum(residual, 1e-3 * max(float(np.median(residual)), 1e-6))
    return coefficients


def _weighted_least_squares(
    design: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    root = np.sqrt(weights)
    return np.asarray(np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0], dtype=np.float64)


def _scatter(design: NDArray[np.float64], target: NDArray[np.float64], own: NDArray[np.float64]) -> float:
    """The deviation to add, squared, to the own variances so that they account for the residuals."""
    residual = np.abs(target - design @ _least_absolute_deviations(design / own[:, None], target / own))

    def size(scatter: float) -> float:
        # A fit of least absolute deviations passes exactly through as many pairs as it has coefficients.
        informative = np.sort(residual / np.hypot(own, scatter))[design.shape[1] :]
        return MAD_TO_SIGMA * float(np.median(informative))

    if size(0.0) <= 1.0:
        return 0.0
    low, high = 0.0, 2.0 * MAD_TO_SIGMA * float(np.max(residual))
    for _ in range(_ITERATIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if size(middle) > 1.0 else (low, middle)
    return 0.5 * (low + high)


def _fit_biweight(
    design: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients, weights 0 … 1 and covariance under Tukey's biweight; residuals are in standard deviations."""
    coefficients = _least_absolute_deviations(design, target)
    weights = biweight(((target - design @ coefficients) / TUKEY) ** 2)
    for _ in range(_ITERATIONS):
        coefficients = _weighted_least_squares(design, target, weights)
        weights = biweight(((target - design @ coefficients) / TUKEY) ** 2)
    covariance = np.asarray(np.linalg.pinv(design.T @ (design * weights[:, None])), dtype=np.float64)
    return coefficients, weights, 0.5 * (covariance + covariance.T)


def _select_order(
    designs: Sequence[NDArray[np.float64]], target: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The design with the most coefficients that each lower the misfit by more than ln N.

    The pair that gains most does not count: a wrong pair far from the others attracts any curve.
    """
    best, misfit = designs[0], _misfit(designs[0], target, deviation)
    for candidate in designs[1:]:
        rival = _misfit(candidate, target, deviation)
        gain, price = misfit - rival, math.log(len(target)) * (candidate.shape[1] - best.shape[1])
        if gain.sum() - gain.max() > price:
            best, misfit = candidate, rival
    return best


def _misfit(
    design: NDArray[np.float64], target: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) squared residuals in standard deviations, bounded as the biweight bounds them."""
    scaled, goal = design / deviation[:, None], target / deviation
    residual = goal - scaled @ _fit_biweight(scaled, goal)[0]
    return np.asarray(TUKEY**2 / 3.0 * biweight_loss((residual / TUKEY) ** 2), dtype=np.float64)
