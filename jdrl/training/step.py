"""One optimiser step: outputs, the loss of the phase, gradients, exponential moving average of the weights."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from jdrl.flow.bidirectional import Deformation, deform_bidirectionally
from jdrl.losses.joint import LossTerms, joint_loss, reblur_loss, warm_up_loss
from jdrl.losses.triplet import estimator_loss, pseudo_label
from jdrl.networks import restore, unwrap_guide
from jdrl.training import schedule
from jdrl.training.processes import no_gradient_sync

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning_fabric import Fabric
    from torch.optim import Optimizer

    from jdrl.config import TrainConfig
    from jdrl.data.batch import Batch
    from jdrl.flow.estimators import FlowEstimator
    from jdrl.training.state import TrainingState

LOSS_COLUMNS = ("loss", "deblur_blur_frame", "deblur_sharp_frame", "reblur", "estimator")
RADIUS_COLUMNS = ("reblur_radius_px", "reblur_radius_mean_square_px2")
COLUMNS = (*LOSS_COLUMNS, *RADIUS_COLUMNS, "gradient_norm", "reblur_gradient_norm")
"""Values of a step, means over its parts and processes. Those of the reblurring network are 0 in a run without it."""


def train_step(
    fabric: Fabric, state: TrainingState, parts: Iterable[Batch], config: TrainConfig, estimate_flow: FlowEstimator
) -> Tensor:
    """Runs one optimiser step on this process's share of the batch; gradients are averaged over all parts.

    Args:
        fabric: Of this process.
        state: Updated, except for its count of steps.
        parts: `config.accumulate` of them, on the device.
        config: The run's.
        estimate_flow: From `jdrl.flow.estimators.flow_estimator`.

    Returns:
        The values of `COLUMNS`, means over this process's parts, still on the device.
    """
    set_rates(state.optimiser, state.step, config)
    terms = [
        accumulate_gradient(fabric, state, batch, number, config, estimate_flow) for number, batch in enumerate(parts)
    ]
    values = torch.stack(terms).mean(0)
    norms = clip_gradients(state.optimiser, config.gradient_norm).to(values.device)
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    update_ema(state.ema_network, state.network, schedule.ema_decay(state.step, config))
    return torch.cat([values, norms])


def set_rates(optimiser: Optimizer, step: int, config: TrainConfig) -> None:
    """Sets the rates of a step: of the deblurring network and, if it is trained, of the reblurring network."""
    rates = schedule.learning_rate(step, config), schedule.reblur_learning_rate(step, config)
    for group, rate in zip(optimiser.param_groups, rates, strict=False):
        group["lr"] = rate


def clip_gradients(optimiser: Optimizer, limit: float) -> Tensor:
    """Clips each network's gradient to a norm of `limit` (0: not at all). Returns both norms before, (2,).

    Apart, because an outburst of one network would otherwise stop the other.
    """
    norms = [nn.utils.clip_grad_norm_(group["params"], limit or math.inf) for group in optimiser.param_groups]
    # A frozen network has no gradient, and its norm of 0 is not on the device; to copy it there would wait.
    device = next(parameter.device for group in optimiser.param_groups for parameter in group["params"])
    zero = torch.zeros((), device=device)
    padded = [norm.detach() if norm.device == device else zero for norm in norms] + [zero]
    return torch.stack(padded[:2])


def accumulate_gradient(
    fabric: Fabric, state: TrainingState, batch: Batch, part: int, config: TrainConfig, estimate_flow: FlowEstimator
) -> Tensor:
    """Adds the gradient of one part of the batch. Returns all values of `COLUMNS` except the norms."""
    # Dropout draws from a seed of the step, the part and the process: a resumed run draws the same.
    seed = [config.seed, state.step, part * fabric.world_size + fabric.global_rank]
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    frozen, triplet = state.step < schedule.deblur_start_step(config), config.method == "triplet"
    freeze(state.network, frozen, triplet)
    more_parts = part < config.accumulate - 1
    networks = tuple(network for network in (state.network, state.reblur_network) if network is not None)
    with no_gradient_sync(fabric, networks, more_parts):
        with torch.set_grad_enabled(triplet or not frozen):
            outputs = restore(state.network, batch.blur)
        kernels = outputs.pop() if triplet else None
        terms = phase_loss(outputs, batch, state, config, estimate_flow)
        estimator = blur_estimator_loss(kernels, outputs[0], batch, state, config)
        total = terms.total + schedule.estimator_weight(state.step, config) * estimator
        fabric.backward(total / config.accumulate)
    values = (total, terms.deblur_blur_frame, terms.deblur_sharp_frame, terms.reblur, estimator)
    return torch.cat([torch.stack([value.detach() for value in values]), terms.radius_moments])


def freeze(network: nn.Module, frozen: bool, guided: bool) -> None:
    """Freezes or unfreezes the deblurring network; its guide is always trained."""
    deblurring = unwrap_guide(network)
    network.train(guided or not frozen)
    deblurring.train(not frozen)
    if guided:
        deblurring.requires_grad_(not frozen)


def phase_loss(
    outputs: list[Tensor], batch: Batch, state: TrainingState, config: TrainConfig, estimate_flow: FlowEstimator
) -> LossTerms:
    """The loss of the phase of `state.step`."""
    official_warp = config.warp == "official"
    reblur_network = state.reblur_network
    if state.step < schedule.deblur_start_step(config) and config.method == "jdrl" and reblur_network is not None:
        return reblur_loss(outputs, batch.blur, batch.valid, reblur_network, reblur_weight=config.reblur_weight)
    if state.step < schedule.joint_start_step(config):
        flow, mask = warm_up_flow(batch, config, estimate_flow)
        return warm_up_loss(
            outputs,
            batch.blur,
            batch.wide_sharp,
            flow,
            mask,
            reblur_network,
            # A weight of 0 is that of the output's term; labels of the blur need the network all the same.
            reblur_weight=config.reblur_weight or 1.0,
            official_warp=official_warp,
        )
    deformation = estimate_deformation(outputs[0].detach().float().clamp(0, 1), batch, config, estimate_flow)
    joint = partial(
        joint_loss,
        outputs,
        batch.blur,
        deformation,
        batch.valid,
        deformation_weights=schedule.deformation_weights(state.step, config),
        official_warp=official_warp,
    )
    if config.reblur_weight or reblur_network is None:
        return joint(reblur_network, reblur_weight=schedule.reblur_weight(state.step, config))
    terms, labels = joint(None), reblur_loss([outputs[0].detach()], batch.blur, batch.valid, reblur_network)
    return replace(terms, total=terms.total + labels.total, reblur=labels.reblur, radius_moments=labels.radius_moments)


def warm_up_flow(batch: Batch, config: TrainConfig, estimate_flow: FlowEstimator) -> tuple[Tensor, Tensor]:
    """The flow u[B→S] of phase 1 and its validity mask: stored, or estimated.

    With `mask = "official"` the estimated flow is used without a consistency mask, as in the published code.
    """
    if config.warm_up_flow != "estimated":
        return batch.flow, batch.valid
    unmasked = config.model_copy(update={"mask": "none"}) if config.mask == "official" else config
    deformation = estimate_deformation(batch.blur, batch, unmasked, estimate_flow)
    return deformation.to_sharp, deformation.target_mask


def estimate_deformation(
    deblurred: Tensor, batch: Batch, config: TrainConfig, estimate_flow: FlowEstimator
) -> Deformation:
    """Warps a deblurred batch (B, 3, H, W) in [0, 1] and its sharp frames onto each other, as configured."""
    return deform_bidirectionally(
        deblurred,
        batch.wide_sharp,
        batch.valid,
        batch.wide_valid,
        estimate_flow,
        stored_flow=batch.flow if config.flow == "cached" or config.registration == "pairs" else None,
        mask=config.mask,
        official_warp=config.warp == "official",
    )


def blur_estimator_loss(
    kernels: Tensor | None, deblurred: Tensor, batch: Batch, state: TrainingState, config: TrainConfig
) -> Tensor:
    """The loss of the blur estimator's kernel weights; zero while its weight is zero."""
    reblur_network = state.reblur_network
    if kernels is None or reblur_network is None or schedule.estimator_weight(state.step, config) == 0:
        return torch.zeros_like(deblurred[0, 0, 0, 0])
    return estimator_loss(kernels, pseudo_label(deblurred, batch.blur, batch.valid, reblur_network))


@torch.no_grad()
def update_ema(ema_network: nn.Module, network: nn.Module, decay: float) -> None:
    """Updates the exponential moving average of the weights; integer buffers are copied."""
    # Not by `state_dict`, which lists a shared weight once for each module.
    means, values = ((*module.parameters(), *module.buffers()) for module in (ema_network, network))
    for mean, value in zip(means, values, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1.0 - decay)
        else:
            mean.copy_(value)
