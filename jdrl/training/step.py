"""One optimiser step: outputs, the loss of the phase, gradients, averaged weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from jdrl.flow.bidirectional import Deformation, deform_bidirectionally
from jdrl.losses.joint import LossTerms, joint_loss, reblur_loss, warm_up_loss
from jdrl.losses.triplet import estimator_loss, pseudo_label
from jdrl.networks import restore, unguided
from jdrl.training import schedule
from jdrl.training.processes import no_gradient_sync

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning_fabric import Fabric

    from jdrl.config import TrainConfig
    from jdrl.data.batch import Batch
    from jdrl.flow.estimators import FlowEstimator
    from jdrl.training.state import State

COLUMNS = ("loss", "deblur_blur_frame", "deblur_sharp_frame", "reblur", "estimator", "gradient_norm")


def train_step(
    fabric: Fabric, state: State, parts: Iterable[Batch], config: TrainConfig, estimate_flow: FlowEstimator
) -> Tensor:
    """One optimiser step on this process's share of the batch, whose gradients are averaged over all parts.

    Args:
        fabric: Of this process.
        state: Is moved on, but for its count of steps.
        parts: `config.accumulate` of them, on the device.
        config: The run's.
        estimate_flow: From `jdrl.flow.estimators.flow_estimator`.

    Returns:
        The values of `COLUMNS`, means over this process's parts, still on the device.
    """
    rate = schedule.learning_rate(state.step, config)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    terms = [part_gradient(fabric, state, batch, number, config, estimate_flow) for number, batch in enumerate(parts)]
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, config.gradient_norm or math.inf)
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    update_average(state.average, state.network, schedule.ema_decay(state.step, config))
    return torch.cat([torch.stack(terms).mean(0), norm.detach().view(1)])


def part_gradient(
    fabric: Fabric, state: State, batch: Batch, part: int, config: TrainConfig, estimate_flow: FlowEstimator
) -> Tensor:
    """Adds the gradient of one part of the batch. Returns all values of `COLUMNS` but the last."""
    # Dropout draws from a seed of the step, the part and the process: a resumed run draws the same.
    seed = [config.seed, state.step, part * fabric.world_size + fabric.global_rank]
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    frozen, triplet = state.step < schedule.deblur_start_step(config), config.method == "triplet"
    freeze(state.network, frozen, triplet)
    more = part < config.accumulate - 1
    with no_gradient_sync(fabric, (state.network, state.reblur_network), more):
        with torch.set_grad_enabled(triplet or not frozen):
            outputs = restore(state.network, batch.blur)
        kernels = outputs.pop() if triplet else None
        terms = loss_of(outputs, batch, state, config, estimate_flow)
        estimator = estimator_loss_of(kernels, outputs[0], batch, state, config)
        total = terms.total + schedule.estimator_weight(state.step, config) * estimator
        fabric.backward(total / config.accumulate)
    values = (total, terms.deblur_blur_frame, terms.deblur_sharp_frame, terms.reblur, estimator)
    return torch.stack([value.detach() for value in values])


def freeze(network: nn.Module, frozen: bool, guided: bool) -> None:
    """Freezes the deblurring network or lets it learn; what guides it always learns."""
    own = unguided(network)
    network.train(guided or not frozen)
    own.train(not frozen)
    if guided:
        own.requires_grad_(not frozen)


def loss_of(
    outputs: list[Tensor], batch: Batch, state: State, config: TrainConfig, estimate_flow: FlowEstimator
) -> LossTerms:
    """The loss of the phase that `state.step` lies in."""
    official_warp = config.warp == "official"
    if state.step < schedule.deblur_start_step(config) and config.method == "jdrl":
        return reblur_loss(outputs, batch.blur, batch.valid, state.reblur_network, reblur_weight=config.reblur_weight)
    if state.step < schedule.joint_start_step(config):
        flow, mask = warm_up_flow(batch, config, estimate_flow)
        return warm_up_loss(
            outputs,
            batch.blur,
            batch.wide_sharp,
            flow,
            mask,
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


def warm_up_flow(batch: Batch, config: TrainConfig, estimate_flow: FlowEstimator) -> tuple[Tensor, Tensor]:
    """u[B→S] of phase 1 and where to trust it: stored, or estimated, by the published code without a mask."""
    if config.warm_up_flow != "estimated":
        return batch.flow, batch.valid
    unmasked = config.model_copy(update={"mask": "none"}) if config.mask == "official" else config
    found = deformation_of(batch.blur, batch, unmasked, estimate_flow)
    return found.to_sharp, found.target_mask


def deformation_of(deblurred: Tensor, batch: Batch, config: TrainConfig, estimate_flow: FlowEstimator) -> Deformation:
    """A deblurred batch (B, 3, H, W) in [0, 1] and its sharp frames brought onto each other, as `config` says."""
    return deform_bidirectionally(
        deblurred,
        batch.wide_sharp,
        batch.valid,
        batch.wide_valid,
        estimate_flow,
        stored_flow=batch.flow if config.flow == "cached" else None,
        mask=config.mask,
        official_warp=config.warp == "official",
    )


def estimator_loss_of(
    kernels: Tensor | None, deblurred: Tensor, batch: Batch, state: State, config: TrainConfig
) -> Tensor:
    """The loss of the blur estimator's `kernels`; zero while it has no weight."""
    if kernels is None or schedule.estimator_weight(state.step, config) == 0:
        return torch.zeros_like(deblurred[0, 0, 0, 0])
    return estimator_loss(kernels, pseudo_label(deblurred, batch.blur, batch.valid, state.reblur_network))


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
