"""One optimiser step: outputs, the loss of the phase, gradients, averaged weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from jdrl import schedule
from jdrl.losses import LossTerms, joint_loss, warm_up_loss
from jdrl.mutual_deformation import Deformation, deformed
from jdrl.networks import restore

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from jdrl.config import TrainConfig
    from jdrl.data import Batch
    from jdrl.flow import FlowEstimator
    from jdrl.training_state import State

COLUMNS = ("loss", "deblur_blur_frame", "deblur_sharp_frame", "reblur", "gradient_norm")


def train_step(fabric: Fabric, state: State, batch: Batch, config: TrainConfig, estimate_flow: FlowEstimator) -> Tensor:
    """One optimiser step. Returns the values of `COLUMNS`, still on the device."""
    # Dropout draws from the step's own seed: a resumed run draws the same.
    torch.manual_seed(int(np.random.SeedSequence([config.seed, state.step]).generate_state(1)[0]))
    for group in state.optimiser.param_groups:
        group["lr"] = schedule.learning_rate(state.step, config)
    state.network.train()
    outputs = restore(state.network, batch.blur)
    terms = loss_of(outputs, batch, state, config, estimate_flow)
    fabric.backward(terms.total)
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    update_average(state.average, state.network, schedule.ema_decay(state.step, config))
    parts = (terms.total, terms.deblur_blur_frame, terms.deblur_sharp_frame, terms.reblur, norm)
    return torch.stack([part.detach() for part in parts])


def loss_of(
    outputs: list[Tensor], batch: Batch, state: State, config: TrainConfig, estimate_flow: FlowEstimator
) -> LossTerms:
    """The loss of the phase that `state.step` lies in."""
    official_warp = config.warp == "official"
    if state.step < schedule.joint_from(config):
        return warm_up_loss(
            outputs,
            batch.blur,
            batch.wide_sharp,
            batch.flow,
            batch.valid,
            state.reblur_network,
            reblur_weight=config.reblur_weight,
            official_warp=official_warp,
        )
    deformation = deformation_of(outputs[0].detach().float().clamp(0, 1), batch, config, estimate_flow)
    return joint_loss(
        outputs,
        batch.blur,
        deformation,
        batch.valid,
        state.reblur_network,
        reblur_weight=schedule.reblur_weight(state.step, config),
        official_warp=official_warp,
    )


def deformation_of(deblurred: Tensor, batch: Batch, config: TrainConfig, estimate_flow: FlowEstimator) -> Deformation:
    """A deblurred batch (B, 3, H, W) in [0, 1] and its sharp frames brought onto each other, as `config` says."""
    return deformed(
        deblurred,
        batch.wide_sharp,
        batch.valid,
        batch.wide_valid,
        estimate_flow,
        stored_flow=batch.flow if config.flow == "cached" else None,
        mask=config.mask,
        official_warp=config.warp == "official",
    )


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the averaged weights towards the network's; whole-number buffers are copied."""
    # Not by `state_dict`, which lists a weight that several modules share once for each.
    theirs, ours = ((*one.parameters(), *one.buffers()) for one in (average, network))
    for mean, value in zip(theirs, ours, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1.0 - decay)
        else:
            mean.copy_(value)
