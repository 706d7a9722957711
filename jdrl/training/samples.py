"""Pictures of a run at work: one crop, and everything that the joint loss makes of it."""

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
from jdrl.reblurring.reblur import coc_radius_px, reblur
from jdrl.training.step import deformation_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from jdrl.config import TrainConfig
    from jdrl.data.batch import Batch
    from jdrl.flow.estimators import FlowEstimator
    from jdrl.training.logs import Logs
    from jdrl.training.state import State
    from sdd_toolkit.imaging.encoding import Encoding


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """One crop as the joint loss sees it.

    Attributes:
        blur: (1, 3, H, W) what goes in.
        deblurred: (1, 3, H, W) what the averaged network answers, in [0, 1].
        truth: (1, 3, H, W) the sharp frame warped onto it.
        reblurred: (1, 3, H, W) the answer blurred again.
        mask: (1, 1, H, W) how far the warp is trusted, in [0, 1].
        radius_px: (1, 1, H, W) radius of the circle of confusion that reblurring found.
    """

    blur: Tensor
    deblurred: Tensor
    truth: Tensor
    reblurred: Tensor
    mask: Tensor
    radius_px: Tensor


@torch.no_grad()
def sample_of(
    fabric: Fabric, state: State, crop: Batch, config: TrainConfig, estimate_flow: FlowEstimator
) -> ProgressSample:
    """What a run makes of one crop now; every process must ask.

    Args:
        fabric: Of this process.
        state: Of the run.
        crop: A batch of one, on the device.
        config: The run's.
        estimate_flow: As for training.
    """
    with fabric.autocast():
        deblurred = restore(state.average, crop.blur)[0].float().clamp(0, 1)
    deformation = deformation_of(deblurred, crop, config, estimate_flow)
    weights = state.reblur_network(deblurred, crop.blur)
    return ProgressSample(
        blur=crop.blur,
        deblurred=deblurred,
        truth=deformation.target,
        reblurred=reblur(deblurred, weights, config.reblur_basis),
        mask=deformation.target_mask,
        radius_px=coc_radius_px(weights, config.reblur_basis),
    )


def draw_sample(sample: ProgressSample, encoding: Encoding, largest_px: float, logs: Logs, step: int) -> None:
    """Draws a sample as a grid of six into RUN/samples/ and TensorBoard.

    Args:
        sample: What to draw.
        encoding: Of its images; linear ones get the sRGB curve to be looked at.
        largest_px: Radius at the upper end of the blur map's scale.
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
    axes = figure.subplots(2, 3).ravel()
    for place, (title, image) in zip(axes[:4], images, strict=True):
        place.imshow(to_display_pixels(image, encoding), interpolation="nearest")
        place.set_title(title, fontsize=10)
    maps = (
        ("mask: how far the warp is trusted", sample.mask, "gray", 1.0),
        ("radius of the blur, px", sample.radius_px, "viridis", largest_px),
    )
    for place, (title, values, colours, largest) in zip(axes[4:], maps, strict=True):
        shown = place.imshow(values[0, 0].float().cpu().numpy(), cmap=colours, vmin=0, vmax=largest)
        place.set_title(title, fontsize=10)
        figure.colorbar(shown, ax=place, shrink=0.8)
    for place in axes:
        place.set_axis_off()
    figure.suptitle(f"step {step}", fontsize=11)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    logs.picture("sample", step, np.ascontiguousarray(drawn[..., :3]))
