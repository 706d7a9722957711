"""`sdd train`: from shards to checkpoints. One file, functions in the order in which they are called.

Two phases (JDRL, Li et al., AAAI 2023). Warm-up: the output is compared with the sharp frame warped by the flow
stored in the shards, while the reblurring network learns on the side. Joint: output and sharp frame are warped onto
each other by flow estimated on the fly, and the output, reblurred, must give back the blurred frame.

Nothing here opens any split but `train` and `val`.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from jdrl import checkpoint, schedule
from jdrl.config import FREE_ON_RESUME, TrainConfig
from jdrl.data import Batch, Crops, batch_of, check_crop, loader, training_patches, validation_batches
from jdrl.device import device_name
from jdrl.flow import FlowEstimator, flow_estimator
from jdrl.logs import Logs, opened
from jdrl.losses import LossTerms, joint_loss, warm_up_loss
from jdrl.metrics import psnr
from jdrl.networks import build_network, load_published, restore
from jdrl.reblur import ReblurNetwork
from sdd_toolkit.errors import CheckpointError, InputError, SddError
from sdd_toolkit.files import replacing, sha256_of, write_text
from sdd_toolkit.progress import silent
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.types import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sdd_toolkit.develop import Encoding
    from sdd_toolkit.progress import Track

_LOG = logging.getLogger(__name__)
COLUMNS = ("loss", "deblur_blur_frame", "deblur_sharp_frame", "reblur", "gradient_norm")


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


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is learnt from: numbered crops, and a fixed list of crops to validate on (maybe empty)."""

    crops: Crops
    validation: list[Batch]
    encoding: Encoding
    sha256: str


def run(
    shards: Path,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Trains on the `train` split of `shards` and writes checkpoints and logs to `out`.

    A run that was interrupted and resumed gives, on a CPU with the same number of threads, the bytes of one that
    was not. Ctrl-C and SIGTERM finish the step, save and raise KeyboardInterrupt.

    Args:
        shards: Folder with index.json.
        out: Folder of the run.
        config: The `[train]` section.
        resume: Go on from the run's latest checkpoint.
        overwrite: Start anew although `out` holds checkpoints.
        track: Shows progress.

    Raises:
        InputError: No usable data, or `out` holds another run.
        SddError: The loss is no longer a number; the batch that made it is saved.
        ConfigError: A value of `config` does not fit the data or the network.
        CheckpointError: The checkpoint to resume from does not fit `config` or `shards`.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    fabric = Fabric(accelerator=device_name(config.device), devices=1, precision=config.precision)
    state = set_up_state(fabric, config)
    data = set_up_data(shards, config)
    first = begin(out, state, config, data, resume=resume, overwrite=overwrite)
    if state.step < config.steps:
        with opened(out, state.step) as logs, stop_requested() as stop:
            fit(fabric, state, data, config, out, logs, stop, track)
    return Report(
        stage="train",
        total=config.steps,
        done=state.step - first,
        skipped=first,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(checkpoint.locate(out)),),
    )


def set_up_state(fabric: Fabric, config: TrainConfig) -> State:
    """New networks and a new optimiser on the device."""
    torch.manual_seed(config.seed)
    network = build_network(config.network, **config.network_options)
    reblur_network = ReblurNetwork(config.reblur_radius_px, config.reblur_width)
    average = copy.deepcopy(network).to(fabric.device).eval().requires_grad_(False)
    parameters = [*network.parameters(), *reblur_network.parameters()]
    optimiser = AdamW(parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    # Fabric's wrappers stand in for what they wrap; its stubs do not say so.
    wrapped = cast("ReblurNetwork", fabric.setup_module(reblur_network))
    prepared = cast("Optimizer", fabric.setup_optimizers(optimiser))
    return State(fabric.setup_module(network), average, wrapped, prepared)


def set_up_data(shards: Path, config: TrainConfig) -> DataSet:
    """The training crops and the validation crops: from the `val` split, else from held-out training scenes."""
    with ShardReader(shards, split="train") as reader:
        train, held_out = training_patches(reader, config)
        validation = validation_batches(reader, held_out, config) if held_out else []
        encoding = reader.encoding
        has_own = any(shard.split == "val" and shard.patches for shard in reader.index.shards)
        if has_own:
            train = reader.patches
    if has_own:
        with ShardReader(shards, split="val") as reader:
            check_crop(reader, config)
            validation = validation_batches(reader, reader.patches, config)
    if not validation:
        _LOG.warning("too few scenes to hold one out: training without validation")
    crops = Crops(shards, train, config, length=config.steps * config.batch)
    return DataSet(crops, validation, encoding, sha256_of(shards / "index.json"))


def begin(out: Path, state: State, config: TrainConfig, data: DataSet, *, resume: bool, overwrite: bool) -> int:
    """Restores the latest checkpoint, or sees to it that none is in the way. Returns the steps already done."""
    present = checkpoint.checkpoints(out)
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other", hint="leave one of them out")
    if resume:
        restore_state(checkpoint.latest(out), state, config, data)
    elif present and not overwrite:
        raise InputError(
            f"{out} already holds a training run ({present[-1].name})",
            hint="--resume goes on with it, --overwrite starts anew; or give another --out",
        )
    else:
        checkpoint.remove_all(out)
    write_text(out / "config.json", config.model_dump_json(indent=2) + "\n")
    return state.step


def restore_state(folder: Path, state: State, config: TrainConfig, data: DataSet) -> None:
    """Puts a checkpoint into `state`.

    Raises:
        CheckpointError: It was made with another configuration or data set, or is damaged.
    """
    header = checkpoint.read_header(folder)
    wanted = config.model_dump(mode="json")
    for key in wanted.keys() - FREE_ON_RESUME:
        if header.config.get(key) != wanted[key]:
            raise CheckpointError(
                f"{folder} was trained with {key} = {header.config.get(key)!r}, now it is {wanted[key]!r}",
                hint="resume with the configuration of the run (config.json in its folder), or start a new run",
            )
    if (header.shards_sha256, header.encoding) != (data.sha256, data.encoding):
        raise CheckpointError(f"{folder} was trained on another data set", hint="give the run's own SHARDS folder")
    tensors = checkpoint.read_tensors(folder / checkpoint.TRAINING)
    load_published(state.average, checkpoint.read_tensors(folder / checkpoint.WEIGHTS))
    load_published(state.network, checkpoint.unflattened(tensors, "network"))
    load_published(state.reblur_network, checkpoint.unflattened(tensors, "reblur"))
    checkpoint.load_optimiser(state.optimiser, checkpoint.unflattened(tensors, "optimiser"))
    state.step = header.step
    state.validation_psnr_db, state.best_psnr_db = header.validation_psnr_db, header.best_psnr_db


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C or SIGTERM came; a second one interrupts at once. Only the main thread can listen."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(
    fabric: Fabric,
    state: State,
    data: DataSet,
    config: TrainConfig,
    out: Path,
    logs: Logs,
    stop: Callable[[], bool],
    track: Track,
) -> None:
    """All remaining steps; logs, validates and saves at their intervals and at the end.

    Raises:
        KeyboardInterrupt: It was asked to stop; the checkpoint is written.
    """
    estimate_flow = flow_estimator(config.flow)
    rows: list[Tensor] = []
    with track("train", config.steps - state.step) as advance:
        for batch in loader(data.crops, state.step, config, pin_memory=fabric.device.type == "cuda"):
            rows.append(train_step(fabric, state, batch.to(fabric.device), config, estimate_flow))
            state.step += 1
            note = ""
            ending = stop() or state.step == config.steps
            validating = bool(data.validation) and due(state.step, config.validate_every, config)
            saving = ending or validating or due(state.step, config.save_every, config)
            # Numbers are looked at only now and then: each look waits for the device.
            if saving or due(state.step, config.log_every, config):
                note = log_rows(rows, state, data, config, out, logs)
                rows = []
            if validating:
                validate(fabric, state, data, logs)
            if saving:
                save(out, state, config, data)
            advance(note=note)
            if ending:
                break
    if state.step < config.steps:
        _LOG.warning("stopped after step %d; add --resume to go on from there", state.step)
        raise KeyboardInterrupt


def due(step: int, every: int, config: TrainConfig) -> bool:
    """Whether something done `every` so many steps, and at the end, is due."""
    return step % every == 0 or step == config.steps


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
    if state.step < schedule.joint_from(config):
        # Already warped, with a margin around the crop: what is left to warp by is nothing.
        still = torch.zeros_like(batch.blur[:, :2])
        return warm_up_loss(
            outputs,
            batch.blur,
            batch.sharp_on_blur,
            still,
            batch.valid,
            state.reblur_network,
            reblur_weight=config.reblur_weight,
        )
    return joint_loss(
        outputs,
        batch.blur,
        batch.sharp,
        batch.valid,
        state.reblur_network,
        estimate_flow,
        reblur_weight=schedule.reblur_weight(state.step, config),
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


def log_rows(rows: list[Tensor], state: State, data: DataSet, config: TrainConfig, out: Path, logs: Logs) -> str:
    """Checks the latest steps' numbers and logs their means. Returns a word for the progress bar.

    Raises:
        SddError: One is not finite; the batch that made it is saved.
    """
    values = torch.stack(rows).cpu()
    wrong = (~torch.isfinite(values).all(dim=1)).nonzero()
    if len(wrong):
        step = state.step - len(rows) + int(wrong[0])
        raise diverged(step, batch_of(data.crops, step, config.batch), out)
    means = dict(zip(COLUMNS, values.mean(dim=0).tolist(), strict=True))
    step = state.step - 1
    plan = {"learning_rate": schedule.learning_rate(step, config), "joint": step >= schedule.joint_from(config)}
    logs.write("train", state.step, {**means, **plan})
    return f"{'joint' if plan['joint'] else 'warm-up'}, loss {means['loss']:.4f}"


def diverged(step: int, batch: Batch, out: Path) -> SddError:
    """Saves the batch of a step whose loss is no number, and the error that names it."""
    path = out / f"diverged-step-{step:08d}.npz"
    blur, sharp, sharp_on_blur, valid = (part.numpy() for part in batch.parts())
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez(stream, blur=blur, sharp=sharp, sharp_on_blur=sharp_on_blur, valid=valid)
    return SddError(
        f"the loss or its gradient is not finite at step {step}; the batch is saved in {path}",
        hint="look at that batch; then lower [train] learning_rate or gradient_norm and start anew with --overwrite",
    )


@torch.no_grad()
def validate(fabric: Fabric, state: State, data: DataSet, logs: Logs) -> None:
    """Mean PSNR of the averaged network, and of its input, against the aligned sharp crops."""
    scores = []
    for batch in (crop.to(fabric.device) for crop in data.validation):
        with fabric.autocast():
            deblurred = restore(state.average, batch.blur)[0].float().clamp(0, 1)
        pair = (deblurred, batch.blur)
        scores.append(torch.cat([psnr(image, batch.sharp_on_blur, batch.valid) for image in pair]))
    deblurred_db, input_db = torch.stack(scores).nanmean(dim=0).tolist()
    # No valid pixel in any crop: no number that a later one could improve on.
    state.validation_psnr_db = None if math.isnan(deblurred_db) else deblurred_db
    logs.write("val", state.step, {"psnr_db": deblurred_db, "input_psnr_db": input_db})


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
