"""Data-parallel training with Fabric: processes started by this one, by `torchrun` or by `fabric run`.

Every process holds all weights, takes its share of each step's crops and averages its gradients with those of the
other processes (torch's DistributedDataParallel).
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import torch
from lightning_fabric import Fabric

from jdrl.device import resolve_device
from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lightning_fabric.wrappers import _FabricModule
    from torch import nn

    from jdrl.config import TrainConfig


def start_processes(config: TrainConfig) -> Fabric:
    """Joins the processes of this run, after starting them where no launcher has and `config` has several.

    Raises:
        ConfigError: `config` contradicts the launcher, or its batch cannot be divided among the processes.
        InputError: `device = "cuda"` without a CUDA device.
    """
    devices, nodes = process_counts(config, os.environ)
    # Fabric logs the placement at length in every process.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator="auto" if "LT_ACCELERATOR" in os.environ else resolve_device(config.device),
            # A phase, or a custom network, may leave weights unused.
            strategy="auto" if (devices, nodes) == (1, 1) else "ddp_find_unused_parameters_true",
            devices=devices,
            num_nodes=nodes,
            precision=config.precision,
        )
        if not is_fabric_run(os.environ):
            fabric.launch()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot train in {devices} processes on each of {nodes} nodes: {error}",
            hint="see docs/training.md on several GPUs",
        ) from error
    crops_per_forward(config, fabric.world_size)
    return fabric


def process_counts(config: TrainConfig, environment: Mapping[str, str]) -> tuple[int | str, int]:
    """(processes on each node, nodes), as Fabric takes them; those of a launcher override `config`.

    Args:
        config: devices and nodes, used without a launcher.
        environment: Of this process, with the variables of `torchrun` and `fabric run`.
    """
    if is_fabric_run(environment):
        return "auto", 1  # for Fabric: as on the command line of `fabric run`
    if "TORCHELASTIC_RUN_ID" in environment:
        local_count = int(environment["LOCAL_WORLD_SIZE"])
        return local_count, int(environment["WORLD_SIZE"]) // local_count
    return config.devices, config.nodes


def is_fabric_run(environment: Mapping[str, str]) -> bool:
    """Whether `fabric run` started this process."""
    return environment.get("LT_CLI_USED") == "1"


def crops_per_forward(config: TrainConfig, processes: int) -> int:
    """Crops that one process takes through the network in one forward pass.

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


def build_any_process(fabric: Fabric) -> Callable[[bool], bool]:
    """An all-reduce of a flag with OR; every process must call the function equally often."""
    if fabric.world_size == 1:
        return lambda flag: flag
    # On the CPU: a reduction on the device would wait for its queue.
    group = torch.distributed.new_group(backend="gloo")

    def is_any(flag: bool) -> bool:
        reduced = torch.tensor([flag], dtype=torch.uint8)
        torch.distributed.all_reduce(reduced, op=torch.distributed.ReduceOp.MAX, group=group)
        return bool(reduced.item())

    return is_any


def mean_over_processes(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """The mean of `values` over all processes, the same on each of them."""
    return cast("torch.Tensor", fabric.all_reduce(values, reduce_op="mean"))


def sum_over_processes(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """The sum of `values` over all processes, the same on each of them."""
    return cast("torch.Tensor", fabric.all_reduce(values, reduce_op="sum"))


@contextmanager
def no_gradient_sync(fabric: Fabric, networks: tuple[nn.Module, ...], enabled: bool) -> Iterator[None]:
    """Suspends the exchange of gradients where `enabled`: later parts of the step will add to them."""
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(fabric.no_backward_sync(cast("_FabricModule", network), enabled=enabled))
        yield
