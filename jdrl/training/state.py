"""What a training run changes step by step: made anew, put back from a checkpoint, saved to one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch.optim import Adam, AdamW, Optimizer

from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.published_weights import read_weights
from jdrl.config import FREE_ON_RESUME, TrainConfig
from jdrl.networks import Guide, build_network, guided, load_published, unguided
from jdrl.reblurring.network import ReblurNetwork, reblur_network_of
from jdrl.training.acceleration import compiled, recompute_blocks
from sdd_toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_fabric import Fabric
    from torch import nn

    from jdrl.data.crops import DataSet


@dataclass(slots=True)
class State:
    """Everything that a step changes and a checkpoint holds."""

    network: nn.Module
    average: nn.Module
    reblur_network: ReblurNetwork
    optimiser: Optimizer
    step: int = 0
    validation_psnr_db: float | None = None
    best_psnr_db: float | None = None


def set_up_state(fabric: Fabric, config: TrainConfig) -> State:
    """New networks and a new optimiser on the device.

    Raises:
        ConfigError: There is no such network, or no compiler for it.
    """
    torch.manual_seed(config.seed)
    network = guided(build_network(config.network, **config.network_options), guide_of(config))
    reblur_network = reblur_network_of(config)
    if config.channels_last:
        for module in (network, reblur_network):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).to(fabric.device).eval().requires_grad_(False)
    parameters = [*network.parameters(), *reblur_network.parameters()]
    kind = AdamW if config.optimiser == "adamw" else Adam
    optimiser = kind(parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    if config.gradient_checkpointing:
        recompute_blocks(unguided(network))
    if config.compile:
        network = compiled(network, fabric.device)
    # Fabric's wrappers stand in for what they wrap; its stubs do not say so.
    wrapped = cast("ReblurNetwork", fabric.setup_module(reblur_network))
    prepared = cast("Optimizer", fabric.setup_optimizers(optimiser))
    return State(fabric.setup_module(network), average, wrapped, prepared)


def guide_of(config: TrainConfig) -> Guide | None:
    """What guides the network, if anything does."""
    if config.method != "triplet":
        return None
    return Guide(config.reblur_radius_px, config.estimator_width, config.fusion, config.reblur_basis)


def start_from(path: Path, state: State) -> None:
    """Puts weights that were learnt elsewhere, with their guide if they have one, into the network and its average.

    Args:
        path: A training run (its best checkpoint counts), one of its checkpoints, or a file of published weights.
        state: A new one.

    Raises:
        CheckpointError: There is nothing to read, or it is of another network.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path} is not there: no checkpoint and no training run, nor a file of weights",
            hint="give a run, one of its step-… folders, or a file of published weights",
        )
    found = (
        read_weights(path) if path.is_file() else checkpoint.read_tensors(checkpoint.locate(path) / checkpoint.WEIGHTS)
    )
    alone = not any(name.startswith("estimator.") for name in found)
    for network in (state.average, state.network):
        load_published(unguided(network) if alone else network, found)


def restore_state(folder: Path, state: State, config: TrainConfig, data: DataSet) -> None:
    """Puts a checkpoint into `state`.

    Raises:
        CheckpointError: It was made with another configuration or data set, or is damaged.
    """
    header = checkpoint.read_header(folder)
    if (header.shards_sha256, header.encoding) != (data.sha256, data.encoding):
        raise CheckpointError(f"{folder} was trained on another data set", hint="give the run's own SHARDS folder")
    wanted = config.model_dump(mode="json")
    for key in wanted.keys() - FREE_ON_RESUME:
        if header.config.get(key) != wanted[key]:
            raise CheckpointError(
                f"{folder} was trained with {key} = {header.config.get(key)!r}, now it is {wanted[key]!r}",
                hint="resume with the configuration of the run (config.json in its folder), or start a new run",
            )
    tensors = checkpoint.read_tensors(folder / checkpoint.TRAINING)
    load_published(state.average, checkpoint.read_tensors(folder / checkpoint.WEIGHTS))
    load_published(state.network, checkpoint.unflattened(tensors, "network"))
    load_published(state.reblur_network, checkpoint.unflattened(tensors, "reblur"))
    checkpoint.load_optimiser(state.optimiser, checkpoint.unflattened(tensors, "optimiser"))
    state.step = header.step
    state.validation_psnr_db, state.best_psnr_db = header.validation_psnr_db, header.best_psnr_db


def save(out: Path, state: State, config: TrainConfig, data: DataSet) -> None:
    """Writes the checkpoint of this step and moves the pointers."""
    latest, best = state.validation_psnr_db, state.best_psnr_db
    improved = latest is not None and (best is None or latest > best)
    state.best_psnr_db = latest if improved else best
    header = checkpoint.Header(
        step=state.step,
        network=config.network,
        network_options=config.network_options,
        encoding=data.encoding,
        shards_sha256=data.sha256,
        config=config.model_dump(mode="json"),
        validation_psnr_db=latest,
        best_psnr_db=state.best_psnr_db,
        guide=guide_of(config),
    )
    training = {
        **checkpoint.flattened("network", state.network.state_dict()),
        **checkpoint.flattened("reblur", state.reblur_network.state_dict()),
        **checkpoint.optimiser_tensors(state.optimiser),
    }
    folder = checkpoint.save(out, header, state.average.state_dict(), training)
    if improved:
        checkpoint.point(out, checkpoint.BEST, folder)
    checkpoint.prune(out, config.keep)
