"""Validation: PSNR and geometric drift of the averaged network on the validation crops, by all processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from jdrl.metrics.drift import BLOCK_PX, estimate_drift
from jdrl.metrics.fidelity import psnr
from jdrl.networks import restore
from jdrl.reblurring.light import to_linear_light
from jdrl.training.processes import sum_over_processes
from sdd_toolkit.imaging.encoding import Encoding

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from jdrl.data.batch import Batch
    from jdrl.data.training_data import TrainingData
    from jdrl.training.state import TrainingState

DRIFT_CROPS = 8  # of the validation: drift costs more than all else
MIN_BLOCK_PX = 48


@torch.no_grad()
def validate(fabric: Fabric, state: TrainingState, data: TrainingData) -> dict[str, float]:
    """Scores the averaged network on the validation crops, and sets `state.validation_psnr_db`.

    Args:
        fabric: Of this process.
        state: Of the run.
        data: With validation crops.

    Returns:
        Means over the crops: `psnr_db` of the output, `input_psnr_db`, and `drift_px`, how far the output is displaced
        against the input, of the first eight crops if they have 96 px or more. NaN where no crop has a value.
    """
    crops = data.validation
    scores = torch.zeros(len(crops), 3, device=fabric.device)
    for number in range(fabric.global_rank, len(crops), fabric.world_size):
        batch = crops[number].to(fabric.device)
        with fabric.autocast():
            # What is not finite counts as black.
            deblurred = restore(state.ema_network, batch.blur)[0].float().nan_to_num(0, 1, 0).clamp(0, 1)
        pair = (deblurred, batch.blur)
        scores[number, :2] = torch.cat([psnr(image, batch.sharp_on_blur, batch.valid) for image in pair])
        scores[number, 2] = _drift_px(deblurred, batch, data.encoding) if number < DRIFT_CROPS else math.nan
    deblurred_db, input_db, drift_px = sum_over_processes(fabric, scores).nanmean(dim=0).tolist()
    # NaN where no crop has a valid pixel: no later score could be compared with it.
    state.validation_psnr_db = None if math.isnan(deblurred_db) else deblurred_db
    return {"psnr_db": deblurred_db, "input_psnr_db": input_db, "drift_px": drift_px}


def _drift_px(deblurred: Tensor, batch: Batch, encoding: Encoding) -> float:
    """The mean drift of one crop in blocks of a half of it; NaN where it is too small or every block abstains."""
    block = min(BLOCK_PX, batch.blur.shape[-1] // 8 * 4)
    if block < MIN_BLOCK_PX:
        return math.nan
    images = [deblurred, batch.blur]
    if encoding is not Encoding.LINEAR16:
        images = [to_linear_light(image) for image in images]
    found = estimate_drift(images[0], images[1], block=block).mean_px
    return math.nan if found is None else found
