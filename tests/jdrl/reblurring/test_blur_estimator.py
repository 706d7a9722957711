from __future__ import annotations

import pytest
import torch

from jdrl.reblurring.blur_estimator import BlurEstimator, normalise_contrast
from jdrl.reblurring.reblur import coc_radius_px


def small() -> BlurEstimator:
    torch.manual_seed(0)
    return BlurEstimator(radius_px=5, width=8)


@pytest.mark.parametrize("size", [(16, 16), (15, 21), (1, 1)])
def test_its_weights_sum_to_one_at_every_pixel_of_any_size(size: tuple[int, int]) -> None:
    weights = small()(torch.rand(2, 3, *size))
    assert weights.shape == (2, 6, *size)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, *size))


def test_a_new_one_sees_hardly_any_blur() -> None:
    assert small()(torch.rand(1, 3, 32, 32))[:, 0].min() > 0.7


def test_its_map_of_blur_is_the_radius_of_its_kernels() -> None:
    estimator = small()
    image = torch.rand(2, 3, 9, 14)
    assert torch.equal(estimator.estimate_radius_px(image), coc_radius_px(estimator(image)))


def test_it_looks_as_far_as_it_says() -> None:
    torch.manual_seed(0)
    estimator = BlurEstimator(radius_px=3, width=8, blocks=3)
    image = torch.rand(1, 3, 160, 160, requires_grad=True)
    estimator.features(image)[..., 20, 20].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)).nonzero()
    # A cell's four pixels from 80 on, 1 + 2 blocks cells around it, and the window of the local contrast.
    assert (seen.min(dim=0).values.tolist(), seen.max(dim=0).values.tolist()) == ([44, 44], [119, 119])


def test_neither_brightness_nor_contrast_changes_the_map_of_blur() -> None:
    torch.manual_seed(0)
    estimator = small()
    torch.nn.init.normal_(estimator.head.weight)
    image = torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(estimator(0.5 * image + 0.3), estimator(image), rtol=0, atol=1e-2)


def test_even_contrast_stays_finite_where_there_is_none() -> None:
    assert normalise_contrast(torch.full((1, 3, 20, 20), 0.7)).abs().max() < 1e-3
