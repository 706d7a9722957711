"""The mapping of pixels: direction, inverse, radial term, flow, scale, and no interpolation of labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from alignment.transforms.mapping import Mapping, map_in_bands, source_points
from alignment.transforms.transform import Transform
from sdd_toolkit.imaging import geometry, resampling

SIZE = (180, 240)
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TILTED = Transform(
    "b", "s", SIZE, ((1.02, -0.004, 5.3), (0.006, 1.015, -7.7), (2e-5, -1e-5, 1.0)), "homography", -0.012
)


def shifted(x: float, y: float, **more: object) -> Transform:
    return Transform("b", "s", SIZE, ((1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0)), "similarity", **more)  # type: ignore[arg-type]


def waves(size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    """Smooth, so that resampling twice loses little."""
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]] / size[1]
    planes = [np.sin(2 * np.pi * (a * xs + b * ys) + c) for a, b, c in ((9, 2, 0), (-3, 8, 1), (5, 5, 2))]
    return (0.5 + 0.3 * np.stack(planes, axis=-1)).astype(np.float32)


def mapped(image: NDArray[np.generic], mapping: Mapping, nearest: bool = False) -> tuple[np.ndarray, np.ndarray]:
    done = list(map_in_bands(image, mapping, nearest=nearest))
    return np.concatenate([band.pixels for band in done]), np.concatenate([band.valid for band in done])


def test_a_mark_on_the_blurred_frame_goes_where_the_homography_sends_it() -> None:
    image = np.zeros((*SIZE, 3), np.float32)
    image[60, 50] = 1
    pixels, valid = mapped(image, Mapping(shifted(7, -9)))
    assert np.argwhere(pixels[..., 0]).tolist() == [[51, 57]]
    assert valid[:171, 7:].all()
    assert not valid[171:].any()
    assert not valid[:, :7].any()


def test_the_inverse_brings_a_mark_on_the_sharp_frame_to_the_blurred_one() -> None:
    image = np.zeros((*SIZE, 3), np.float32)
    image[51, 57] = 1
    pixels, _ = mapped(image, Mapping(shifted(7, -9), inverse=True))
    assert np.argwhere(pixels[..., 0]).tolist() == [[60, 50]]


def test_the_identity_copies_every_pixel() -> None:
    image = waves()
    pixels, valid = mapped(image, Mapping(shifted(0, 0)))
    assert np.array_equal(pixels, image)
    assert valid.all()


def test_there_and_back_again_is_where_it_was() -> None:
    flow = np.zeros((45, 60, 2), np.float32)
    ys, xs = np.mgrid[0:45, 0:60]
    flow[..., 0], flow[..., 1] = 1.5 * np.sin(xs / 9), np.cos(ys / 7)
    there = Mapping(TILTED, flow=flow)
    image = waves()
    pixels, valid = mapped(image, there)
    back, also = mapped(pixels, replace(there, inverse=True))
    from_valid, _ = mapped(valid.astype(np.float32), replace(there, inverse=True))
    inner = also & (from_valid > 0.999)
    assert inner.mean() > 0.7
    assert float(np.abs(back - image)[inner].max()) < 2e-3


def test_points_go_there_and_back_exactly() -> None:
    """The inverse is asked at the blurred frame's pixels; its answers must map back onto them."""
    sharp_x, sharp_y, _ = source_points(Mapping(TILTED, inverse=True), slice(0, SIZE[0]))
    q = geometry.project(np.linalg.inv(TILTED.matrix), np.stack([sharp_x.ravel(), sharp_y.ravel()], axis=1))
    centre = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    reach = np.hypot(*SIZE) / 2
    off = (q - centre) / reach
    bent = centre + reach * off * (1 + TILTED.radial * (off**2).sum(axis=1, keepdims=True))
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    assert float(np.abs(bent - np.stack([xs.ravel(), ys.ravel()], axis=1)).max()) < 1e-9


def test_a_positive_radial_term_looks_further_out() -> None:
    bent = Transform("b", "s", SIZE, IDENTITY, "identity", radial=0.01)
    x, y, _ = source_points(Mapping(bent), slice(0, 1))
    # The first pixel's centre lies just within the half diagonal that the term is measured in.
    rho2 = ((239 / 2) ** 2 + (179 / 2) ** 2) / (180**2 + 240**2) * 4
    assert x[0, 0] == pytest.approx(119.5 - 119.5 * (1 + 0.01 * rho2))
    assert y[0, 0] == pytest.approx(89.5 - 89.5 * (1 + 0.01 * rho2))


def test_it_is_the_warp_that_the_packer_applies() -> None:
    image = waves()
    pixels, valid = mapped(image, Mapping(TILTED))
    reference = resampling.warp(image, TILTED.matrix, SIZE, radial=TILTED.radial)
    assert float(np.abs(pixels - reference).max()) < 1e-5
    assert np.array_equal(valid, resampling.valid_mask(TILTED.matrix, SIZE, SIZE, radial=TILTED.radial))


def test_the_flow_carries_what_the_homography_left_behind() -> None:
    flow = np.full((45, 60, 2), (3.0, -2.0), np.float32)
    image = np.zeros((*SIZE, 3), np.float32)
    image[60, 50] = 1
    pixels, _ = mapped(image, Mapping(shifted(7, -9), flow=flow))
    assert np.argwhere(pixels[..., 0] > 0.5).tolist() == [[49, 60]]
    back, _ = mapped(pixels, Mapping(shifted(7, -9), inverse=True, flow=flow))
    assert np.argwhere(back[..., 0] > 0.5).tolist() == [[60, 50]]


@pytest.mark.parametrize("scale", [0.5, 2.0, 3.0])
def test_files_of_another_size_get_the_same_transform(scale: float) -> None:
    mapping = Mapping(replace(TILTED, radial=0.0), scale=scale)
    assert mapping.size == (round(180 * scale), round(240 * scale))
    x, y, _ = source_points(mapping, slice(0, mapping.size[0]))
    matrix = geometry.rescale_homography(TILTED.matrix, scale)
    ys, xs = np.mgrid[0 : mapping.size[0], 0 : mapping.size[1]].astype(float)
    expected = geometry.project(np.linalg.inv(matrix), np.stack([xs.ravel(), ys.ravel()], axis=1))
    assert float(np.abs(np.stack([x.ravel(), y.ravel()], axis=1) - expected).max()) < 1e-9


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_nearest_mixes_no_numbers_and_is_black_outside(dtype: type[np.generic]) -> None:
    labels = np.where(np.arange(240) < 120, 3, 200)[None].repeat(180, axis=0).astype(dtype)
    pixels, valid = mapped(labels, Mapping(TILTED), nearest=True)
    assert pixels.dtype == dtype
    assert set(np.unique(pixels[valid])) == {3, 200}
    assert not pixels[~valid].any()
    assert 0 < int((~valid).sum()) < 0.2 * valid.size
