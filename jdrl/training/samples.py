"""Progress pictures of a run: one crop with its output, target, reblurred output, mask and blur map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from jdrl.data.display import to_display_pixels
from jdrl.networks import restore
from jdrl.reblurring.reblur import coc_radius_px, reblur_by
from jdrl.training.step import estimate_deformation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from jdrl.config import TrainConfig
    from jdrl.data.batch import Batch
    from jdrl.flow.estimators import FlowEstimator
    from jdrl.training.logs import Logs
    from jdrl.training.state import TrainingState
    from sdd_toolkit.imaging.encoding import Encoding


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """The images of the joint loss for one crop.

    Attributes:
        blur: (1, 3, H, W) input.
        deblurred: (1, 3, H, W) output of the averaged network, in [0, 1].
        truth: (1, 3, H, W) sharp frame warped onto the output.
        reblurred: (1, 3, H, W) output, reblurred; None without a reblurring network.
        mask: (1, 1, H, W) validity mask of the warp, in [0, 1].
        radius_px: (1, 1, H, W) radius of the circle of confusion, of the reblurring kernels; or None.
    """

    blur: Tensor
    deblurred: Tensor
    truth: Tensor
    reblurred: Tensor | None
    mask: Tensor
    radius_px: Tensor | None


@torch.no_grad()
def build_sample(
    fabric: Fabric, state: TrainingState, crop: Batch, config: TrainConfig, estimate_flow: FlowEstimator
) -> ProgressSample:
    """Computes the sample of one crop from the current state; every process must call it.

    Args:
        fabric: Of this process.
        state: Of the run.
        crop: A batch of one, on the device.
        config: The run's.
        estimate_flow: As for training.
    """
    with fabric.autocast():
        deblurred = restore(state.ema_network, crop.blur)[0].float().clamp(0, 1)
    deformation = estimate_deformation(deblurred, crop, config, estimate_flow)
    reblurred, radius_px = None, None
    if state.reblur_network is not None:
        reblurred, weights = reblur_by(state.reblur_network, deblurred, crop.blur)
        radius_px = coc_radius_px(weights, config.reblur_basis)
    return ProgressSample(
        blur=crop.blur,
        deblurred=deblurred,
        truth=deformation.target,
        reblurred=reblurred,
        mask=deformation.target_mask,
        radius_px=radius_px,
    )


def draw_sample(sample: ProgressSample, encoding: Encoding, max_radius_px: float, logs: Logs, step: int) -> None:
    """Draws a sample as a grid of six pictures into RUN/samples/ and TensorBoard.

    Args:
        sample: The images.
        encoding: Of the images; linear ones get the sRGB curve for display.
        max_radius_px: Radius at the upper end of the blur map's scale.
        logs: Of the run.
        step: Optimiser steps done.
    """
    figure = Figure(figsize=(9.6, 6.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    images = (
        ("input", sample.blur),
        ("output", sample.deblurred),
        ("sharp frame, warped", sample.truth),
        ("output, reblurred", sample.reblurred),
    )
    panels = figure.subplots(2, 3).ravel()
    for axes, (title, image) in zip(panels[:4], images, strict=True):
        if image is not None:
            axes.imshow(to_display_pixels(image, encoding), interpolation="nearest")
            axes.set_title(title, fontsize=10)
    maps = (
        ("mask: how far the warp is trusted", sample.mask, "gray", 1.0),
        ("radius of the blur, px", sample.radius_px, "viridis", max_radius_px),
    )
    for axes, (title, values, colours, largest) in zip(panels[4:], maps, strict=True):
        if values is not None:
            picture = axes.imshow(values[0, 0].float().cpu().numpy(), cmap=colours, vmin=0, vmax=largest)
            axes.set_title(title, fontsize=10)
            figure.colorbar(picture, ax=axes, shrink=0.8)
    for axes in panels:
        axes.set_axis_off()
    figure.suptitle(f"step {step}", fontsize=11)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    logs.picture("sample", step, np.ascontiguousarray(pixels[..., :3]))
