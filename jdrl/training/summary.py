"""The decisions of a run, in a few lines that it tells before its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jdrl.training import schedule
from jdrl.training.state import prefers_channels_last

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_fabric import Fabric
    from torch import nn

    from jdrl.config import TrainConfig
    from jdrl.data.training_data import TrainingData
    from jdrl.flow.global_motion import GlobalMotion
    from jdrl.training.state import TrainingState


def describe_run(
    fabric: Fabric,
    state: TrainingState,
    config: TrainConfig,
    data: TrainingData,
    motions: Mapping[str, GlobalMotion | None],
) -> list[str]:
    """Describes device, networks, data, flow and phases of a run; `config` is resolved."""
    return [
        f"device: {_device(fabric, config)}",
        f"network: {config.network}, {_count(state.network):,} parameters, rate {config.learning_rate:g}"
        + (f", from {config.weights}" if config.weights else ""),
        f"reblurring: {_reblurring(state, config)}",
        f"data: {len(data.crops.patches)} training patches, {len(data.validation)} validation crops, {data.encoding}",
        f"flow: {_flow(config, motions)}",
        f"steps: {_phases(config)}, {config.batch} crops of {config.crop} px each",
    ]


def _device(fabric: Fabric, config: TrainConfig) -> str:
    processes = f"{fabric.world_size} process" + ("es" if fabric.world_size > 1 else "")
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count > 1 else ''}" if fabric.device.type == "cpu" else ""
    layout = ", channels last" if prefers_channels_last(config, fabric.device) else ""
    return f"{fabric.device.type}, {processes}{threads}, {config.precision}{layout}"


def _reblurring(state: TrainingState, config: TrainConfig) -> str:
    if state.reblur_network is None:
        return "none, nothing uses it"
    rate = schedule.reblur_peak_rate(config)
    light = "linear light" if config.reblur_light == "linear" else "the values as encoded"
    return (
        f"{_count(state.reblur_network):,} parameters, {config.reblur_basis} up to {config.reblur_radius_px} px, "
        f"blurs {light}, weight {config.reblur_weight:g}, rate {rate:g}"
    )


def _flow(config: TrainConfig, motions: Mapping[str, GlobalMotion | None]) -> str:
    found = sum(motion is not None for motion in motions.values())
    registered = f" ({found} of {len(motions)} unaligned pairs registered whole)" if motions else ""
    return f"{config.warm_up_flow} in the warm-up{registered}, {config.flow} in the joint phase, mask {config.mask}"


def _phases(config: TrainConfig) -> str:
    frozen, joint = schedule.deblur_start_step(config), schedule.joint_start_step(config)
    parts = (("frozen", frozen), ("warm-up", joint - frozen), ("joint", config.steps - joint))
    return " + ".join(f"{count} {name}" for name, count in parts if count)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
