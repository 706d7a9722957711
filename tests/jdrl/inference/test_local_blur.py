"""Local blur without a network: planted discs are read, noise and JPEG do not matter, a sharp photograph is sharp."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import render_pair
from jdrl.inference.local_blur import CELL_PX, estimate_blur_map
from sdd_toolkit.imaging.disc import blur_with_disc as blurred
from sdd_toolkit.imaging.encoding import srgb_encode

Image = NDArray[np.float32]


def scene(height: int = 384, width: int = 512, seed: int = 0) -> Image:
    """Rectangles of all sizes and a 1/f texture, in [0, 1]."""
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    texture = np.fft.irfft2(np.fft.rfft2(draw.standard_normal((height, width))) / frequency, s=(height, width))
    image = 0.5 + 0.1 * texture / texture.std()
    for _ in range(400):
        y, x, size = draw.integers(0, height), draw.integers(0, width), int(8 / draw.uniform(0.05, 1))
        image[y : y + size, x : x + size] += draw.uniform(-0.3, 0.3)
    return np.clip(image, 0, 1).astype(np.float32)[..., None].repeat(3, 2)


def codes(image: Image, noise: float = 0.0) -> Image:
    noisy = image + np.random.default_rng(1).normal(0, noise, image.shape) if noise else image
    return (np.round(np.clip(noisy, 0, 1) * 255) / 255).astype(np.float32)


def median_px(image: Image) -> float:
    found = estimate_blur_map(image)
    assert found is not None
    return float(np.median(found))


def test_a_disc_is_read_up_to_forty_pixels_with_noise_and_as_jpeg() -> None:
    image = scene()
    for radius_px in (2.5, 5, 10, 20, 40):
        soft = blurred(image, radius_px)
        jpeg = cv2.imdecode(cv2.imencode(".jpg", codes(soft) * 255, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], 1)
        for seen in (codes(soft), codes(soft, noise=0.01), jpeg.astype(np.float32) / 255):
            assert 0.6 < median_px(seen) / radius_px < 1.7, radius_px


def test_a_sharp_image_is_sharp_everywhere() -> None:
    for noise in (0.0, 0.02):
        found = estimate_blur_map(codes(scene(), noise))
        assert found is not None
        assert np.percentile(found, 90) < 1.3


def test_the_map_tells_sharp_and_blurred_halves_apart() -> None:
    image = scene()
    both = np.where(np.arange(512)[None, :, None] < 256, image, blurred(image, 12))
    found = estimate_blur_map(codes(both))
    assert found is not None
    assert found.shape == (384 // CELL_PX, 512 // CELL_PX)
    assert np.percentile(found[:, :14], 90) < 1.6
    assert np.percentile(found[:, 21:], 10) > 5


@pytest.mark.parametrize("coc_px", [6.0, 40.0])
def test_frames_of_the_virtual_camera(coc_px: float) -> None:
    config = SimulateConfig(
        width=384, height=288, min_coc_px=0.9 * coc_px, max_coc_px=coc_px, vignetting=0.0, exposure_error_ev=0.0
    )
    pair = render_pair(config, "focus", 3, 0)
    noisy = codes(srgb_encode(np.clip(pair.blur_linear, 0, 1)), noise=0.005)
    assert 0.5 < median_px(noisy) / float(np.median(pair.truth.coc_px)) < 1.8


def test_flat_or_small_images_tell_nothing() -> None:
    assert estimate_blur_map(np.full((64, 64, 3), 0.5, np.float32)) is None
    assert estimate_blur_map(codes(np.full((64, 64, 3), 0.5, np.float32), noise=0.01)) is None
    assert estimate_blur_map(scene()[:20, :20]) is None


def test_a_flat_part_continues_its_surroundings() -> None:
    soft = blurred(scene(), 8)
    soft[:, 200:300] = 0.5
    found = estimate_blur_map(codes(cv2.GaussianBlur(soft, (0, 0), 3)))
    assert found is not None
    assert 4 < np.median(found[:, 14:17]) < 20
