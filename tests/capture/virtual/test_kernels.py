from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from capture.virtual.kernels import ROUND, Pupil, open_fraction, pupil_kernel, pupil_outline


def spread_of(kernel: np.ndarray) -> tuple[float, float]:
    """Variances along x and y, without the pixel's own 1/12."""
    at = np.arange(len(kernel)) - len(kernel) // 2
    light = kernel.astype(np.float64)
    x, y = (light.sum(0) * at).sum(), (light.sum(1) * at).sum()
    return (light.sum(0) * (at - x) ** 2).sum() - 1 / 12, (light.sum(1) * (at - y) ** 2).sum() - 1 / 12


@pytest.mark.parametrize(("blades", "roundness"), [(3, 0.0), (5, 0.0), (6, 0.0), (9, 0.4)])
def test_a_polygon_has_the_area_of_the_disc_and_its_own_variance(blades: int, roundness: float) -> None:
    pupil = Pupil(blades=blades, roundness=roundness, turn_deg=7)
    x, y = pupil_outline(pupil).T
    assert np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2 == pytest.approx(np.pi, rel=1e-6)
    circumradius = np.sqrt(2 * np.pi / blades / np.sin(2 * np.pi / blades))
    variance = 49 * circumradius**2 / 12 * (2 + np.cos(2 * np.pi / blades))
    if roundness == 0:
        assert spread_of(pupil_kernel(7.0, pupil)) == pytest.approx((variance, variance), rel=0.005)
    else:
        assert np.mean(spread_of(pupil_kernel(7.0, pupil))) == pytest.approx(49 / 4, rel=0.005)


def test_the_pupil_is_upside_down_before_the_focus() -> None:
    triangle = Pupil(blades=3)
    assert np.allclose(pupil_kernel(5.0, triangle), pupil_kernel(-5.0, triangle)[::-1, ::-1], atol=1e-7)
    assert not np.allclose(pupil_kernel(5.0, triangle), pupil_kernel(-5.0, triangle), atol=1e-3)


def test_a_cats_eye_is_what_two_circles_share() -> None:
    cut = Pupil(rim_x=0.6, rim_radius=1.0)
    lens = 2 * np.arccos(0.3) - 0.6 * np.sqrt(1 - 0.09)
    assert open_fraction(cut) == pytest.approx(lens / np.pi, rel=1e-3)
    kernel = pupil_kernel(6.0, cut)
    assert kernel.max() == pytest.approx(1 / (lens * 36), rel=1e-3)
    assert spread_of(kernel)[1] > 1.3 * spread_of(kernel)[0]


@pytest.mark.parametrize("radius", [-7.0, 7.0])
def test_aberration_gathers_light_in_the_middle_or_at_the_rim(radius: float) -> None:
    plain, soft, ring = (spread_of(pupil_kernel(radius, ROUND, b * np.sign(radius)))[0] for b in (0, 2, -2))
    # r²/4 becomes the mean of e(h)²/2 over the pupil, e = r h + b (h³ - h).
    for measured, b in ((plain, 0), (soft, 2), (ring, -2)):
        expected = integrate.quad(lambda h, b=b: (7 * h + b * (h**3 - h)) ** 2 * h, 0, 1)[0]
        assert measured == pytest.approx(expected, rel=0.01)


def test_in_focus_aberration_leaves_a_small_spot() -> None:
    kernel = pupil_kernel(0.0, ROUND, 4.0)
    assert kernel.shape[0] == 2 * round(4 * 0.385) + 1
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
