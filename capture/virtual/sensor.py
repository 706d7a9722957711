"""The sensor of the virtual camera: low-pass and colour filters, Bayer mosaic, noise, black level, metadata.

In electrons e = w · signal with w the full well over ISO/100, the mean is e and the variance e + read²: the photon
transfer line (J. Janesick, Photon Transfer, SPIE 2007, ch. 3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.encoding import XYZ_FROM_SRGB
from sdd_toolkit.raw import dng

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig
    from capture.virtual.plan import VirtualShot

_BAND_ROWS = 128
_EXACT_BELOW_E = 100.0

NEUTRAL = (0.5, 1.0, 0.65)
"""Camera RGB of white light (D65), green = 1: DNG's AsShotNeutral."""

_MIXING = np.array([[0.62, 0.31, 0.07], [0.14, 0.68, 0.18], [0.03, 0.22, 0.75]])
CAMERA_FROM_SRGB: NDArray[np.float64] = np.diag(NEUTRAL) @ _MIXING
"""(3, 3): linear sRGB to camera RGB; each row of the mixing sums to one, so white is neutral."""

COLOUR_MATRIX: NDArray[np.float64] = CAMERA_FROM_SRGB @ np.linalg.inv(XYZ_FROM_SRGB)
"""(3, 3): CIE XYZ to camera RGB under D65: DNG's ColorMatrix1."""


def expose(linear: NDArray[np.float32], config: SimulateConfig, rng: np.random.Generator | None) -> NDArray[np.uint16]:
    """Converts an image to the raw values of the sensor.

    Args:
        linear: (H, W, 3) linear sRGB; white of value 1 just saturates green.
        config: Noise, levels and Bayer pattern.
        rng: Random generator of the noise; None for a noiseless sensor.

    Returns:
        (H, W) uint16 mosaic, `black_level` … `white_level`.
    """
    mixing = CAMERA_FROM_SRGB.astype(np.float32)
    numbers = np.empty(linear.shape[:2], np.uint16)
    for top in range(0, linear.shape[0], _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
        # Not `linear @ matrix.T`: a threaded BLAS may round differently on another machine.
        camera = np.asarray(cv2.transform(np.ascontiguousarray(linear[band]), mixing), dtype=np.float32)
        signal = to_mosaic(camera, config.cfa)
        if rng is not None and config.noise:
            signal = _add_noise(signal, config, rng)
        raw = config.black_level + signal * np.float32(config.white_level - config.black_level)
        numbers[band] = np.clip(np.rint(raw), 0, config.white_level)
    return numbers


def optical_low_pass(linear: NDArray[np.float32], deviation_px: float) -> NDArray[np.float32]:
    """An image behind the low-pass filter of a sensor: blurred by a Gaussian of 0 to 1 px.

    Seven taps an axis. Sum and variance are those of the Gaussian, and so is the MTF at 0, 1/4 and 1/2 cycles per pixel
    (within 0.035 up to 1/3, 0.06 up to 1/2); samples of so narrow a Gaussian would have half its effect. Up to 0.7 px
    the second taps are negative, and hard edges overshoot by up to 2 %.

    Args:
        linear: (H, W, C), proportional to light.
        deviation_px: Standard deviation of the Gaussian; 0 changes nothing.
    """
    if deviation_px == 0:
        return linear
    quarter, half = (math.exp(-2 * (math.pi * deviation_px * frequency) ** 2) for frequency in (0.25, 0.5))
    second = (1 + half - 2 * quarter) / 8
    third = (deviation_px**2 - 8 * second - (1 - half) / 2) / 16
    first = (1 - half) / 4 - third
    taps = np.array([third, second, first, 1 - 2 * (first + second + third), first, second, third])
    return np.asarray(cv2.sepFilter2D(linear, -1, taps, taps, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def metered_exposure(canvas: NDArray[np.float32], config: SimulateConfig) -> float:
    """The factor that exposes the brightest 0.5 % of a canvas to `highlight_level`."""
    return config.highlight_level / max(float(np.quantile(canvas[::4, ::4].max(axis=2), 0.995)), 1e-6)


def raw_tags(config: SimulateConfig, shot: VirtualShot, shutter_s: float, taken_at: datetime) -> dng.RawTags:
    """Metadata of a DNG file.

    Args:
        config: The camera.
        shot: Aperture and focus.
        shutter_s: Shutter time in seconds.
        taken_at: Capture time.
    """
    return dng.RawTags(
        make="SDD",
        model="Virtual Camera",
        lens=f"SDD {config.focal_mm:g}mm F{config.f_number_min:g}",
        f_number=shot.f_number,
        shutter_s=shutter_s,
        iso=config.iso,
        focal_mm=config.focal_mm,
        focal_35mm=max(1, round(config.focal_mm * 36 / (config.width * config.pitch_mm))),
        focus_m=shot.focus_m,
        pitch_mm=config.pitch_mm,
        taken_at=taken_at,
        cfa=config.cfa,
        black_level=config.black_level,
        white_level=config.white_level,
        neutral=NEUTRAL,
        colour_matrix=COLOUR_MATRIX,
        noise_profile=noise_profile(config),
    )


def _add_noise(signal: NDArray[np.float32], config: SimulateConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """`signal` with shot and read noise; from 100 electrons on, a normal distribution approximates Poisson's."""
    well = np.float32(full_well_e(config))
    electrons = np.maximum(signal, np.float32(0)) * well
    few = electrons < _EXACT_BELOW_E
    read = np.float32(config.read_noise_e)
    deviation = np.where(few, read, np.sqrt(electrons + read * read))
    dim = rng.poisson(electrons[few]) if few.any() else None
    noisy = electrons + deviation * rng.standard_normal(signal.shape, dtype=np.float32)
    if dim is not None:
        noisy[few] += dim - electrons[few]
    return np.asarray(noisy / well, dtype=np.float32)


def full_well_e(config: SimulateConfig) -> float:
    """Electrons at white at the configured ISO."""
    return config.full_well_e * 100.0 / config.iso


def noise_profile(config: SimulateConfig) -> tuple[float, float]:
    """DNG's (S, O): variance = S · signal + O with signal 0 … 1."""
    well = full_well_e(config)
    return (1.0 / well, (config.read_noise_e / well) ** 2) if config.noise else (0.0, 0.0)


def to_mosaic(camera_rgb: NDArray[np.float32], cfa: str) -> NDArray[np.float32]:
    """(H, W): one colour a pixel of the (H, W, 3) image, in the 2x2 pattern `cfa` such as RGGB."""
    samples = np.empty(camera_rgb.shape[:2], np.float32)
    for position, colour in enumerate(cfa):
        row, column = divmod(position, 2)
        samples[row::2, column::2] = camera_rgb[row::2, column::2, "RGB".index(colour)]
    return samples
