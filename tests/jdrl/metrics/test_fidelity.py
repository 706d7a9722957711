from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from jdrl.metrics.fidelity import mae, psnr, ssim

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pair(batch: int = 2, size: tuple[int, int] = (40, 33)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    first = torch.rand(batch, 3, *size, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch, 3, *size, generator=generator, dtype=torch.float64)
    return first, (first + 0.1 * noise).clamp(0, 1)


def reference(name: str, first: np.ndarray, second: np.ndarray) -> float:
    if name == "psnr":
        return float(peak_signal_noise_ratio(first, second, data_range=1))
    options = GAUSSIAN if name == "gaussian11" else {}
    return float(structural_similarity(first, second, data_range=1, channel_axis=0, **options))


@pytest.mark.parametrize("name", ["psnr", "uniform7", "gaussian11"])
def test_every_image_scores_as_in_scikit_image(name: str) -> None:
    first, second = pair()
    ours = psnr(first, second) if name == "psnr" else ssim(first, second, window=name)  # type: ignore[arg-type]
    expected = [reference(name, a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True)]
    assert ours.shape == (2,)
    assert np.abs(ours.numpy() - expected).max() < 1e-10


@pytest.mark.parametrize("name", ["psnr", "uniform7", "gaussian11"])
def test_a_frame_of_several_strips_scores_as_in_scikit_image(name: str) -> None:
    first, second = pair(batch=1, size=(517, 23))
    ours = psnr(first[0], second[0]) if name == "psnr" else ssim(first[0], second[0], window=name)  # type: ignore[arg-type]
    assert ours.shape == ()
    assert float(ours) == pytest.approx(reference(name, first[0].numpy(), second[0].numpy()), abs=1e-10)


def test_single_precision_input_scores_the_same_to_a_millionth() -> None:
    first, second = pair()
    assert (ssim(first.float(), second.float()) - ssim(first, second)).abs().max() < 1e-6
    assert (psnr(first.float(), second.float()) - psnr(first, second)).abs().max() < 1e-5


def test_known_values_of_a_constant_error() -> None:
    first = torch.full((3, 8, 8), 0.5)
    assert math.isclose(float(psnr(first, first + 0.1)), 20.0, abs_tol=1e-5)
    assert math.isclose(float(mae(first, first - 0.1)), 0.1, abs_tol=1e-7)
    assert psnr(first, first).shape == ()


def test_equal_images_score_infinity_one_and_zero() -> None:
    first, _ = pair(batch=1)
    assert psnr(first, first).item() == math.inf
    assert ssim(first, first).item() == pytest.approx(1)
    assert mae(first, first).item() == 0


@pytest.mark.parametrize("metric", [psnr, mae, ssim])
def test_what_lies_outside_the_mask_has_no_influence(metric: object) -> None:
    first, second = pair()
    mask = torch.zeros(2, 1, 40, 33)
    mask[..., 4:30, 5:25] = 1
    spoiled = second.masked_fill(mask.expand_as(second) == 0, math.nan)
    inside = metric(first[..., 4:30, 5:25], second[..., 4:30, 5:25])  # type: ignore[operator]
    torch.testing.assert_close(metric(first, spoiled, mask), inside)  # type: ignore[operator]


def test_a_full_mask_changes_nothing() -> None:
    first, second = pair()
    full = torch.ones(2, 1, 40, 33, dtype=torch.bool)
    for metric in (psnr, mae, ssim):
        assert torch.equal(metric(first, second, full), metric(first, second))


def test_an_empty_mask_scores_nan() -> None:
    first, second = pair()
    empty = torch.zeros(2, 1, 40, 33)
    assert all(bool(metric(first, second, empty).isnan().all()) for metric in (psnr, mae, ssim))


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the 11x11"):
        ssim(torch.rand(3, 10, 40), torch.rand(3, 10, 40), window="gaussian11")


def test_images_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr(torch.rand(3, 8, 8), torch.rand(3, 8, 9))
