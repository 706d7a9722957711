"""Optical flow behind one signature: `estimate(a, b)` gives u[a→b], b(x + u(x)) ~ a(x), without gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jdrl.pyramid_flow import pyramid_flow
from sdd_toolkit.errors import ConfigError

FlowEstimator = Callable[[Tensor, Tensor], Tensor]


def flow_estimator(name: str) -> FlowEstimator:
    """The estimator `pyramid` (torch, on the images' device) or `dis` (OpenCV, on the CPU).

    Raises:
        ConfigError: No such estimator.
    """
    try:
        return _ESTIMATORS[name]
    except KeyError:
        raise ConfigError(f"unknown flow estimator {name!r}", hint=f"valid: {', '.join(_ESTIMATORS)}") from None


@torch.no_grad()
def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """OpenCV's Dense Inverse Search (Kroeger et al., ECCV 2016), medium preset, image by image on the CPU.

    Args:
        first: (B, 3, H, W) in [0, 1], a.
        second: (B, 3, H, W) in [0, 1], b.

    Returns:
        (B, 2, H, W) u[a→b] in pixels, float32, on the images' device.
    """
    import cv2
    import numpy as np

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [(image.float().mean(1).clamp(0, 1) * 255).round().byte().cpu().numpy() for image in (first, second)]
    fields = [search.calc(a, b, np.zeros((*a.shape, 2), np.float32)) for a, b in zip(*grey, strict=True)]
    return torch.from_numpy(np.stack(fields)).permute(0, 3, 1, 2).contiguous().to(first.device)


_ESTIMATORS: dict[str, FlowEstimator] = {"pyramid": pyramid_flow, "dis": dis_flow}
