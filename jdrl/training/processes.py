"""Who computes: one process or many, on one device or several, started here, by `torchrun` or by `fabric run`.

Data-parallel: every process holds all weights, takes its share of each step's crops and averages its gradients with
the others' (torch's DistributedDataParallel, by way of Fabric).
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import torch
from lightning_fabric import Fabric

from jdrl.device import device_name
from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lightning_fabric.wrappers import _FabricModule
    from torch import nn

    from jdrl.config import TrainConfig


def set_up_processes(config: TrainConfig) -> Fabric:
    """Joins the processes of this run; starts them where nobody has and `config` asks for more than one.

    Raises:
        ConfigError: `config` contradicts what started the processes, or its batch cannot be shared among them.
        InputError: CUDA was asked for and there is none.
    """
    devices, nodes = placement(config, os.environ)
    # Fabric tells at length what every process can read here.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator="auto" if "LT_ACCELERATOR" in os.environ else device_name(config.device),
            # A phase, or a network of the user's own, may leave weights unused.
            strategy="auto" if (devices, nodes) == (1, 1) else "ddp_find_unused_parameters_true",
            devices=devices,
            num_nodes=nodes,
            precision=config.precision,
        )
        if not by_fabric_run(os.environ):
            fabric.launch()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot train in {devices} processes on each of {nodes} nodes: {error}",
            hint="see docs/training.md on several GPUs",
        ) from error
    crops_per_forward(config, fabric.world_size)
    return fabric


def placement(config: TrainConfig, environment: Mapping[str, str]) -> tuple[int | str, int]:
    """(processes on each node, nodes), as Fabric takes them: what started the processes knows better than `config`.

    Args:
        config: devices and nodes are used where nothing started the processes.
        environment: Of this process, with what `torchrun` and `fabric run` leave there.
    """
    if by_fabric_run(environment):
        return "auto", 1  # Fabric's words for: as the command line said
    if "TORCHELASTIC_RUN_ID" in environment:
        here = int(environment["LOCAL_WORLD_SIZE"])
        return here, int(environment["WORLD_SIZE"]) // here
    return config.devices, config.nodes


def by_fabric_run(environment: Mapping[str, str]) -> bool:
    """Whether `fabric run` started this process."""
    return environment.get("LT_CLI_USED") == "1"


def crops_per_forward(config: TrainConfig, processes: int) -> int:
    """How many crops one process takes through the network at once.

    Raises:
        ConfigError: The batch does not divide evenly.
    """
    parts = processes * config.accumulate
    if config.batch % parts:
        raise ConfigError(
            f"batch = {config.batch} cannot be shared by {processes} processes in {config.accumulate} parts each",
            hint=f"set [train] batch to a multiple of {parts}: it counts the crops of all processes together",
        )
    return config.batch // parts


def any_process(fabric: Fabric) -> Callable[[bool], bool]:
    """A question to all processes at once: whether any of them says yes. Each must ask it equally often."""
    if fabric.world_size == 1:
        return lambda mine: mine
    # Over the CPU: asking the device would wait for it.
    group = torch.distributed.new_group(backend="gloo")

    def any_of(mine: bool) -> bool:
        answer = torch.tensor([mine], dtype=torch.uint8)
        torch.distributed.all_reduce(answer, op=torch.distributed.ReduceOp.MAX, group=group)
        return bool(answer.item())

    return any_of


def mean_over_processes(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """The mean of `values` over all processes, the same on each of them."""
    return cast("torch.Tensor", fabric.all_reduce(values, reduce_op="mean"))


def sum_over_processes(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """The sum of `values` over all processes, the same on each of them."""
    return cast("torch.Tensor", fabric.all_reduce(values, reduce_op="sum"))


@contextmanager
def no_gradient_sync(fabric: Fabric, networks: tuple[nn.Module, ...], here: bool) -> Iterator[None]:
    """Forward and backward inside exchange no gradients where `here`: more of them are still to come."""
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(fabric.no_backward_sync(cast("_FabricModule", network), enabled=here))
        yield
