"""The state of a training run: networks and optimiser, built anew, loaded from or saved to a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch.optim import Adam, AdamW, Optimizer

from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.published_weights import read_weights
from jdrl.config import FREE_ON_RESUME, TrainConfig
from jdrl.networks import Guide, add_guide, build_network, load_published, unwrap_guide
from jdrl.reblurring.network import ReblurNetwork, build_reblur_network
from jdrl.training import schedule
from jdrl.training.acceleration import compile_network, recompute_blocks
from sdd_toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_fabric import Fabric
    from torch import nn

    from jdrl.data.training_data import TrainingData


@dataclass(slots=True)
class TrainingState:
    """The content of a checkpoint; every step changes it.

    Attributes:
        network: Deblurring network, maybe with a guide.
        ema_network: Exponential moving average of its weights; the network that is validated and saved.
        reblur_network: Reblurring network; None where nothing uses it.
        optimiser: Of both networks: a group of parameters for the deblurring network, another for the reblurring one.
        step: Optimiser steps done.
        validation_psnr_db: Of the latest validation; None before the first.
        best_psnr_db: Of the best validation so far; None before the first.
    """

    network: nn.Module
    ema_network: nn.Module
    reblur_network: ReblurNetwork | None
    optimiser: Optimizer
    step: int = 0
    validation_psnr_db: float | None = None
    best_psnr_db: float | None = None


def build_state(fabric: Fabric, config: TrainConfig) -> TrainingState:
    """Builds new networks and a new optimiser on the device.

    Raises:
        ConfigError: There is no such network, or no compiler for it.
    """
    torch.manual_seed(config.seed)
    network = add_guide(build_network(config.network, **config.network_options), build_guide(config))
    reblur_network = build_reblur_network(config) if schedule.uses_reblurring(config) else None
    trained = [module for module in (network, reblur_network) if module is not None]
    if prefers_channels_last(config, fabric.device):
        for module in trained:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema_network = copy.deepcopy(network).to(fabric.device).eval().requires_grad_(False)
    groups = [{"params": list(module.parameters())} for module in trained]
    optimiser_class = AdamW if config.optimiser == "adamw" else Adam
    optimiser = optimiser_class(groups, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    if config.gradient_checkpointing:
        recompute_blocks(unwrap_guide(network))
    if config.compile:
        network = compile_network(network, fabric.device)
    # Fabric's wrappers behave as the wrapped objects, which its stubs do not declare.
    wrapped_reblur_network = (
        None if reblur_network is None else cast("ReblurNetwork", fabric.setup_module(reblur_network))
    )
    wrapped_optimiser = cast("Optimizer", fabric.setup_optimizers(optimiser))
    return TrainingState(fabric.setup_module(network), ema_network, wrapped_reblur_network, wrapped_optimiser)


def prefers_channels_last(config: TrainConfig, device: torch.device) -> bool:
    """Whether the networks' memory has the colours of a pixel together.

    By itself on one thread of a CPU: there torch leaves most convolutions of the other layout to a slow kernel.
    """
    if config.channels_last == "auto":
        return device.type == "cpu" and torch.get_num_threads() == 1
    return config.channels_last


def build_guide(config: TrainConfig) -> Guide | None:
    """The guide of the configured method; None for jdrl."""
    if config.method != "triplet":
        return None
    return Guide(config.reblur_radius_px, config.estimator_width, config.fusion, config.reblur_basis)


def load_initial_weights(path: Path, state: TrainingState) -> None:
    """Loads weights of another training, with their guide if they have one, into the network and its average.

    Args:
        path: A training run (its best checkpoint counts), one of its checkpoints, or a file of published weights.
        state: Newly built.

    Raises:
        CheckpointError: There is no file, or it is of another network.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path} is not there: no checkpoint and no training run, nor a file of weights",
            hint="give a run, one of its step-… folders, or a file of published weights",
        )
    weights = (
        read_weights(path) if path.is_file() else checkpoint.read_tensors(checkpoint.locate(path) / checkpoint.WEIGHTS)
    )
    unguided = not any(name.startswith("estimator.") for name in weights)
    for network in (state.ema_network, state.network):
        load_published(unwrap_guide(network) if unguided else network, weights)


def load_state(folder: Path, state: TrainingState, config: TrainConfig, data: TrainingData) -> None:
    """Loads a checkpoint into `state`.

    Raises:
        CheckpointError: It was made with another configuration or data set, or is damaged.
    """
    header = checkpoint.read_header(folder)
    if (header.shards_sha256, header.encoding) != (data.sha256, data.encoding):
        raise CheckpointError(f"{folder} was trained on another data set", hint="give the run's own SHARDS folder")
    current = config.model_dump(mode="json")
    for key in (current.keys() & header.config.keys()) - FREE_ON_RESUME:
        if header.config[key] != current[key]:
            raise CheckpointError(
                f"{folder} was trained with {key} = {header.config[key]!r}, now it is {current[key]!r}",
                hint="resume with the configuration of the run (config.json in its folder), or start a new run",
            )
    tensors = checkpoint.read_tensors(folder / checkpoint.TRAINING)
    load_published(state.ema_network, checkpoint.read_tensors(folder / checkpoint.WEIGHTS))
    load_published(state.network, checkpoint.strip_prefix(tensors, "network"))
    moments = checkpoint.strip_prefix(tensors, "optimiser")
    if state.reblur_network is not None:
        load_published(state.reblur_network, checkpoint.strip_prefix(tensors, "reblur"))
    else:
        # Earlier versions trained the network in every run; its parameters are the last ones.
        count = sum(len(group["params"]) for group in state.optimiser.param_groups)
        moments = {name: value for name, value in moments.items() if int(name.partition(".")[0]) < count}
    checkpoint.load_optimiser(state.optimiser, moments)
    state.step = header.step
    state.validation_psnr_db, state.best_psnr_db = header.validation_psnr_db, header.best_psnr_db


def save_state(out: Path, state: TrainingState, config: TrainConfig, data: TrainingData) -> None:
    """Writes the checkpoint of this step, moves `latest` and `best`, and deletes old checkpoints."""
    latest, best = state.validation_psnr_db, state.best_psnr_db
    improved = latest is not None and (best is None or latest > best)
    state.best_psnr_db = latest if improved else best
    header = checkpoint.CheckpointHeader(
        step=state.step,
        network=config.network,
        network_options=config.network_options,
        encoding=data.encoding,
        shards_sha256=data.sha256,
        config=config.model_dump(mode="json"),
        validation_psnr_db=latest,
        best_psnr_db=state.best_psnr_db,
        guide=build_guide(config),
    )
    reblurring = {} if state.reblur_network is None else state.reblur_network.state_dict()
    training = {
        **checkpoint.add_prefix("network", state.network.state_dict()),
        **checkpoint.add_prefix("reblur", reblurring),
        **checkpoint.optimiser_tensors(state.optimiser),
    }
    folder = checkpoint.save_checkpoint(out, header, state.ema_network.state_dict(), training)
    if improved:
        checkpoint.write_pointer(out, checkpoint.BEST, folder)
    checkpoint.prune(out, config.keep)
