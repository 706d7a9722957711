"""The whole camera on the optical bench: what is measured in its frames against the formulas, not against its code."""

from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.compositing import composite
from capture.virtual.config import SimulateConfig
from capture.virtual.kernels import Pupil
from capture.virtual.optics import THIN_LENS, Optics
from capture.virtual.picture import picture_from_distance
from capture.virtual.render_pair import RenderedPair, margin_px, render_pair
from capture.virtual.scene import Surface, VirtualScene
from capture.virtual.sensor import optical_low_pass

STILL: dict[str, object] = {
    "width": 192, "height": 128, "noise": False, "vignetting": 0.0, "max_shift_px": 0.0, "max_rotation_deg": 0.0,
    "exposure_error_ev": 0.0, "max_coc_px": 12.0,
}  # fmt: skip


def bench(
    distance_m: float, points: list[tuple[float, float]], kind: str = "aperture", seed: int = 1, **values: object
) -> tuple[RenderedPair, SimulateConfig]:
    """A pair of points on black at one distance, before a screen at 1.7 m; points are (x, y) of the sharp frame."""
    config = SimulateConfig.model_validate({**STILL, **values})
    margin = margin_px(config)
    image = np.zeros((config.height + 2 * margin, config.width + 2 * margin, 3), np.float32)
    for x, y in points:
        column, row = int(np.floor(x)), int(np.floor(y))
        across, down = x - column, y - row
        shares = np.outer([1 - down, down], [1 - across, across]).astype(np.float32)
        image[row + margin : row + margin + 2, column + margin : column + margin + 2] = shares[..., None]
    depth = np.full(image.shape[:2], distance_m)
    depth[:, -1] = 1.7
    return render_pair(config, kind, seed, 1, picture=picture_from_distance(image, depth)), config


def moments(image: np.ndarray) -> tuple[float, float, float]:
    """Sum, centroid x and mean variance of an image of one point."""
    light = image.astype(np.float64)
    ys, xs = np.mgrid[0 : light.shape[0], 0 : light.shape[1]]
    total = light.sum()
    x, y = (light * xs).sum() / total, (light * ys).sum() / total
    return total, x, (light * ((xs - x) ** 2 + (ys - y) ** 2)).sum() / total / 2


def radius_by_area(image: np.ndarray) -> float:
    """From the share of the brightest pixel, which lies wholly within the disc; for points on a pixel's centre."""
    return float(np.sqrt(image.sum(dtype=np.float64) / image.max() / np.pi))


def radius_of(image: np.ndarray, fractions: tuple[float, float] = (0.0, 0.0)) -> float:
    """A uniform disc's variance along an axis is r²/4; the pixel adds 1/12, a point between pixels f (1 - f)."""
    between = sum(f * (1 - f) for f in fractions) / 2
    return 2 * float(np.sqrt(moments(image)[2] - 1 / 12 - between))


def textbook_radius_px(pair: RenderedPair, config: SimulateConfig, distance_m: float, focal_mm: float = 50.0) -> float:
    """c = f²|d - s| / (N d (s - f)) for a lens of 50 mm; other colours keep the opening and the image distance."""
    shot, d = pair.plan.blur, distance_m * 1000
    v, opening_mm = shot.image_mm, 50.0 / shot.f_number
    return opening_mm * abs(v * (1 / focal_mm - 1 / d) - 1) / 2 / config.pitch_mm


@pytest.mark.parametrize("f_number", [1.2, 2.0, 2.8])
@pytest.mark.parametrize("distance_m", [1.2, 1.4, 2.6])
def test_a_points_radius_is_that_of_the_thin_lens(distance_m: float, f_number: float) -> None:
    pair, config = bench(distance_m, [(95.0, 63.0)], f_number_min=f_number)
    expected = textbook_radius_px(pair, config, distance_m)
    s, f = pair.plan.blur.focus_m * 1000, 50.0
    classic = f**2 * abs(distance_m * 1000 - s) / (pair.plan.blur.f_number * distance_m * 1000 * (s - f))
    assert expected == pytest.approx(classic / 2 / config.pitch_mm)
    assert expected > 0.8
    assert radius_by_area(pair.blur_linear[..., 1]) == pytest.approx(expected, abs=0.01)
    # Pixels sample a small disc too coarsely for its variance.
    assert radius_of(pair.blur_linear[..., 1]) == pytest.approx(expected, abs=0.05 if expected > 2 else 0.15)


@pytest.mark.parametrize("place", [(95.0, 63.0), (80.25, 50.5), (101.7, 71.1)])
def test_it_is_the_same_between_pixels(place: tuple[float, float]) -> None:
    pair, config = bench(1.4, [place])
    fractions = (place[0] % 1, place[1] % 1)
    assert radius_of(pair.blur_linear[..., 1], fractions) == pytest.approx(
        textbook_radius_px(pair, config, 1.4), abs=0.05
    )
    assert moments(pair.blur_linear[..., 1])[1] == pytest.approx(place[0], abs=0.01)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_focus_pairs_blur_by_the_lens_equation_too(seed: int) -> None:
    pair, config = bench(1.6, [(95.0, 63.0)], "focus", seed)
    expected = textbook_radius_px(pair, config, 1.6)
    assert expected > 1.5
    assert radius_of(pair.blur_linear[..., 1]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_breathing_is_the_ratio_of_the_image_distances(seed: int) -> None:
    pair, _ = bench(1.6, [(30.0, 63.0), (160.0, 63.0)], "focus", seed)
    left, right = (moments(half)[1] for half in np.split(pair.blur_linear[..., 1], [96], axis=1))
    s_blur, s_sharp = (shot.focus_m * 1000 for shot in (pair.plan.blur, pair.plan.sharp))
    ratio = (50 * s_blur / (s_blur - 50)) / (50 * s_sharp / (s_sharp - 50))
    assert abs(ratio - 1) > 0.003
    assert (96 + right - left) / 130 == pytest.approx(ratio, abs=0.01 / 130)


def test_every_colour_has_the_radius_of_its_own_focal_length() -> None:
    pair, config = bench(1.4, [(95.0, 63.0)], longitudinal_ca=(0.002, -0.001))
    for channel, focal_mm in enumerate((50.1, 50.0, 49.95)):
        expected = textbook_radius_px(pair, config, 1.4, focal_mm)
        assert radius_of(pair.blur_linear[..., channel]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("distance_m", "ring"), [(1.4, True), (2.2, False)])
def test_spherical_aberration_makes_rings_before_the_focus_and_soft_edges_beyond(distance_m: float, ring: bool) -> None:
    pair, config = bench(distance_m, [(95.0, 63.0)], spherical_aberration_px=2.0, f_number_max=64.0)
    shot = pair.blur_linear[..., 1].astype(np.float64)
    radius = textbook_radius_px(pair, config, distance_m)
    ys, xs = np.mgrid[0:128, 0:192]
    away = np.hypot(xs - 95, ys - 63)
    middle, rim = shot[away < 0.4 * radius].mean(), shot[(away > 0.6 * radius) & (away < 0.85 * radius)].mean()
    assert bool(rim > 1.1 * middle) is ring
    assert bool(middle > 1.1 * rim) is not ring
    assert shot[away > radius + 1].sum() < 1e-4 * shot.sum()


SHAPES = {
    "disc": THIN_LENS,
    "blades": Optics(pupil=Pupil(blades=7, roundness=0.3, turn_deg=20)),
    "ring": Optics(aberration_px=-1.5),
    "cat's eye": Optics(rim_shift=0.7, centre=(330.0, 200.0), corner_px=400.0),
}


def two_planes() -> VirtualScene:
    rng = np.random.default_rng(3)
    ground = np.zeros((120, 120, 4), np.float32)
    ground[..., 3] = 1
    patch = np.ones((50, 40, 4), np.float32)
    patch[..., :3] = rng.random((50, 40, 3))
    return VirtualScene((Surface(ground, 0, 0, 0.1), Surface(patch, 40, 35, 0.9)), (120, 120))


@pytest.mark.parametrize("radius", ["3.3", "-6.4", "a ramp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_energy_is_conserved_to_a_thousandth(shape: str, radius: str) -> None:
    scene = two_planes()
    blur = np.linspace(4.0, 6.5, 50)[:, None] if radius == "a ramp" else float(radius)
    image = composite(scene, [0.0, blur], optics=SHAPES[shape])
    assert image.sum(dtype=np.float64) == pytest.approx(composite(scene).sum(dtype=np.float64), rel=1e-3)


ANGLE = np.radians(6.0)


def slanted_edge(optics: Optics, radius_px: float) -> np.ndarray:
    """A rendered edge of exact pixel coverage, 6 degrees off the vertical."""
    fine = (np.arange(200 * 16) + 0.5) / 16 - 100
    inside = np.clip(0.5 - (fine[None, :] * np.cos(ANGLE) + fine[:, None] * np.sin(ANGLE)) * 16, 0, 1)
    edge = inside.reshape(200, 16, 200, 16).mean(axis=(1, 3)).astype(np.float32)
    rgba = np.dstack([edge, edge, edge, np.ones_like(edge)])
    return composite(VirtualScene((Surface(rgba, 0, 0, 0.1),), (200, 200)), [radius_px], optics=optics)[..., 1]


def mtf(edge: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """ISO 12233: the edge profile in quarter pixels, its derivative, the modulus of its spectrum."""
    at = np.arange(200) - 99.5
    distance = (at[None, :] * np.cos(ANGLE) + at[:, None] * np.sin(ANGLE))[40:160]
    bins = np.rint(distance * 4).astype(int).ravel() + 500
    used = np.bincount(bins, minlength=1001)
    profile = np.bincount(bins, edge[40:160].ravel().astype(np.float64), 1001) / np.maximum(used, 1)
    spread = np.diff(profile[500 - 160 : 500 + 161])
    x = (np.arange(len(spread)) - len(spread) / 2) / 4
    return np.abs(np.exp(-2j * np.pi * frequencies[:, None] * x) @ spread) / np.abs(spread.sum())


@pytest.mark.parametrize("shape", ["disc", "blades", "ring"])
def test_the_mtf_of_a_slanted_edge_is_that_of_the_kernel(shape: str) -> None:
    frequencies = np.linspace(0.01, 0.35, 35)
    optics = SHAPES[shape]
    measured = mtf(slanted_edge(optics, 4.3), frequencies) / mtf(slanted_edge(optics, 0.0), frequencies)
    if shape == "ring":
        measured = mtf(slanted_edge(optics, 4.3), frequencies) / mtf(slanted_edge(THIN_LENS, 0.0), frequencies)
    kernel = optics.kernel(4.3).astype(np.float64)
    at = np.arange(len(kernel)) - len(kernel) // 2
    along = at[None, :] * np.cos(ANGLE) + at[:, None] * np.sin(ANGLE)
    expected = np.abs([(kernel * np.exp(-2j * np.pi * f * along)).sum() for f in frequencies])
    assert np.abs(measured - expected).max() < 0.01
    assert expected.min() < 0.05 < 0.9 < expected.max()


@pytest.mark.parametrize("deviation_px", [0.2, 0.45, 1.0])
def test_the_optical_low_pass_has_the_mtf_of_a_gaussian(deviation_px: float) -> None:
    frequencies = np.linspace(0.01, 1 / 3, 33)
    edge = np.dstack([slanted_edge(THIN_LENS, 0.0)] * 3)
    filtered = optical_low_pass(edge, deviation_px)[..., 1]
    measured = mtf(filtered, frequencies) / mtf(edge[..., 1], frequencies)
    assert np.abs(measured - np.exp(-2 * (np.pi * deviation_px * frequencies) ** 2)).max() < 0.035
    assert filtered.max() < 1.02


def test_the_optical_low_pass_is_before_the_sensor_and_not_in_the_truth() -> None:
    (filtered, _), (plain, _) = (bench(1.4, [(95.0, 63.0)], optical_low_pass_px=px) for px in (0.45, 0.0))
    for name in ("blur", "sharp"):
        after, before = (moments(getattr(pair, f"{name}_linear")[..., 1]) for pair in (filtered, plain))
        assert after[0] == pytest.approx(before[0], rel=1e-5)
        assert after[2] - before[2] == pytest.approx(0.45**2, abs=0.001)
        green, sharper = (getattr(pair, f"{name}_mosaic")[0::2, 1::2].astype(int) for pair in (filtered, plain))
        assert np.abs(green - sharper).max() > 10
    for truth in ("aligned", "displacement", "occlusion", "coc_px"):
        assert np.array_equal(getattr(filtered.truth, truth), getattr(plain.truth, truth))
