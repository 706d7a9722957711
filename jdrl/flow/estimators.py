"""Optical flow behind one signature: `estimate(a, b)` gives u[a→b], b(x + u(x)) ~ a(x), on the images' device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.checkpoints.published_weights import read_weights
from jdrl.flow.pwcnet import PWCNet, convert_state_dict
from jdrl.flow.pyramid import pyramid_flow
from jdrl.networks import load_published
from sdd_toolkit.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

FlowEstimator = Callable[[Tensor, Tensor], Tensor]
"""(B, 3, H, W) RGB in [0, 1] twice, to (B, 2, H, W) u[first→second] in pixels, (x, y), float32."""

NAMES = ("cached", "pyramid", "dis", "pwcnet", "raft")
RAFT_LEAST_PX = 128
RAFT_MULTIPLE_PX = 8


def flow_estimator(name: str, weights: Path | None = None, *, differentiable: bool = False) -> FlowEstimator:
    """An estimator.

    Args:
        name: `pyramid`: weight-free, in torch. `cached`: the same, for what a stored field leaves. `dis`: OpenCV's,
            on the CPU. `pwcnet`: PWC-Net. `raft`: torchvision's large RAFT.
        weights: Published weights of `pwcnet` or `raft`, the user's own to bring; nothing in the file is run.
        differentiable: Whether gradients reach the images; by default none do.

    Raises:
        ConfigError: No such estimator, no weights where they are needed, or no gradient where one is asked for.
        CheckpointError: The weights cannot be read or do not fit.
        MissingExtraError: torchvision is not installed.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown flow estimator {name!r}", hint=f"valid: {', '.join(NAMES)}")
    if differentiable and name == "dis":
        raise ConfigError("dis has no gradient", hint="take pyramid, pwcnet or raft")
    estimate = _ESTIMATORS[name] if name in _ESTIMATORS else _network_flow(name, weights)

    def estimated(first: Tensor, second: Tensor) -> Tensor:
        grad = torch.set_grad_enabled(differentiable and torch.is_grad_enabled())
        with grad, torch.autocast(first.device.type, enabled=False):
            return estimate(first.float(), second.float())

    return estimated


def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """OpenCV's Dense Inverse Search (Kroeger et al., ECCV 2016), medium preset, image by image on the CPU."""
    import cv2
    import numpy as np

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [(image.mean(1).clamp(0, 1) * 255).round().byte().cpu().numpy() for image in (first, second)]
    fields = [search.calc(a, b, np.zeros((*a.shape, 2), np.float32)) for a, b in zip(*grey, strict=True)]
    return torch.from_numpy(np.stack(fields)).permute(0, 3, 1, 2).contiguous().to(first.device)


_ESTIMATORS: dict[str, FlowEstimator] = {"cached": pyramid_flow, "pyramid": pyramid_flow, "dis": dis_flow}


def _network_flow(name: str, weights: Path | None) -> FlowEstimator:
    if weights is None:
        raise ConfigError(
            f"{name} needs its published weights", hint="give the file: --flow-weights, or [train] flow_weights"
        )
    network = PWCNet() if name == "pwcnet" else _raft()
    published = read_weights(weights)
    load_published(network, convert_state_dict(published) if name == "pwcnet" else published)
    network.eval().requires_grad_(False)

    def estimate(first: Tensor, second: Tensor) -> Tensor:
        network.to(first.device)
        if name == "raft":
            return _raft_flow(network, first, second)
        flow: Tensor = network(first, second)
        return flow

    return estimate


def _raft() -> nn.Module:
    try:
        from torchvision.models.optical_flow import raft_large
    except ImportError as error:
        raise MissingExtraError("raft needs torchvision: not installed", hint="pip install torchvision") from error
    network: nn.Module = raft_large(weights=None, progress=False)
    return network


def _raft_flow(network: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """RAFT (Teed & Deng, ECCV 2020) takes values in [-1, 1] and multiples of 8 px, 128 at least."""
    height, width = first.shape[-2:]
    down, right = (max(RAFT_LEAST_PX - side, -side % RAFT_MULTIPLE_PX) for side in (height, width))
    images = (F.pad(2 * image - 1, (0, right, 0, down), mode="replicate") for image in (first, second))
    flow: Tensor = network(*images)[-1]
    return flow[..., :height, :width].contiguous()
