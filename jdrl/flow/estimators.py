"""Optical-flow estimators with one signature: `estimate(a, b)` returns u[a→b], with b(x + u(x)) ~ a(x)."""

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
RAFT_MIN_PX = 128
RAFT_MULTIPLE_PX = 8


def flow_estimator(name: str, weights: Path | None = None, *, differentiable: bool = False) -> FlowEstimator:
    """Builds a flow estimator by name; it computes on the images' device.

    Args:
        name: `pyramid`: weight-free, in torch. `cached`: the same, for the residual of a stored flow. `dis`: OpenCV's,
            on the CPU. `pwcnet`: PWC-Net. `raft`: torchvision's large RAFT.
        weights: File of published weights of `pwcnet` or `raft`; no code in it is run.
        differentiable: Whether gradients flow to the images.

    Raises:
        ConfigError: There is no such estimator, its weights are missing, or it has no gradient.
        CheckpointError: The weights cannot be read or do not fit.
        MissingExtraError: torchvision is not installed.

    Example:
        A ramp shifted by one pixel to the right has the flow (1, 0):

        >>> ramp = torch.sin(torch.arange(48.0) / 3).expand(1, 3, 48, 48) / 2 + 0.5
        >>> flow = flow_estimator("pyramid")(ramp, ramp.roll(1, dims=3))
        >>> flow.shape, abs(float(flow[:, 0, 16:32, 16:32].mean()) - 1) < 0.1
        (torch.Size([1, 2, 48, 48]), True)
    """
    if name not in NAMES:
        raise ConfigError(f"unknown flow estimator {name!r}", hint=f"valid: {', '.join(NAMES)}")
    if differentiable and name == "dis":
        raise ConfigError("dis has no gradient", hint="take pyramid, pwcnet or raft")
    estimate = _ESTIMATORS[name] if name in _ESTIMATORS else _network_flow(name, weights)

    def estimate_in_float32(first: Tensor, second: Tensor) -> Tensor:
        grad = torch.set_grad_enabled(differentiable and torch.is_grad_enabled())
        with grad, torch.autocast(first.device.type, enabled=False):
            return estimate(first.float(), second.float())

    return estimate_in_float32


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
    """Runs RAFT (Teed & Deng, ECCV 2020), for values in [-1, 1] and sides in multiples of 8 px, at least 128."""
    height, width = first.shape[-2:]
    down, right = (max(RAFT_MIN_PX - side, -side % RAFT_MULTIPLE_PX) for side in (height, width))
    images = (F.pad(2 * image - 1, (0, right, 0, down), mode="replicate") for image in (first, second))
    flow: Tensor = network(*images)[-1]
    return flow[..., :height, :width].contiguous()
