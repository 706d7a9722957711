"""`sdd train`: from shards to checkpoints. One file, functions in the order in which they are called.

Two phases (JDRL, Li et al., AAAI 2023). Warm-up: the output is compared with the sharp frame warped by the flow
stored in the shards, while the reblurring network learns on the side. Joint: output and sharp frame are warped onto
each other by flow estimated on the fly, and the output, reblurred, must give back the blurred frame. Fine-tuning has a
phase before them, in which the reblurring network alone learns.

Several processes do the same steps side by side, each on its share of the crops; the first one writes all files.
Nothing here opens any split but `train` and `val`.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.data.crops import DataSet, load_batch, loader, set_up_data
from jdrl.data.unaligned_pairs import is_registered
from jdrl.flow.estimators import flow_estimator
from jdrl.metrics.fidelity import psnr
from jdrl.networks import restore
from jdrl.training import schedule
from jdrl.training.divergence import diverged
from jdrl.training.logs import Logs, open_logs
from jdrl.training.processes import any_process, mean_over_processes, set_up_processes, sum_over_processes
from jdrl.training.samples import draw_sample, sample_of
from jdrl.training.state import State, restore_state, save, set_up_state, start_from
from jdrl.training.step import COLUMNS, train_step
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.records import Report
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric

    from jdrl.flow.estimators import FlowEstimator
    from sdd_toolkit.execution.progress import Track

_ONE_PRESS_S = 1.0


def train(
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
    was not. Ctrl-C and SIGTERM, to any of its processes, finish the step, save and raise KeyboardInterrupt.

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
        CheckpointError: The checkpoint to resume from does not fit `config` or `shards`, or weights do not fit.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    config = with_warm_up_flow(config, shards)
    fabric = set_up_processes(config)
    state = set_up_state(fabric, config)
    data = set_up_data(shards, config)
    config = in_steps(config, len(data.crops.patches))
    # Before anything is written or deleted: its weights may be missing.
    estimate_flow = flow_estimator(config.flow, config.flow_weights)
    first = begin(fabric, out, state, config, data, resume=resume, overwrite=overwrite)
    if state.step < config.steps:
        writes = fabric.is_global_zero
        with open_logs(out, state.step) if writes else nullcontext() as logs, stop_requested(fabric) as stop:
            fit(fabric, state, data, config, estimate_flow, out, logs, stop, track if writes else silent)
    return Report(
        stage="train",
        total=config.steps,
        done=state.step - first,
        skipped=first,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(checkpoint.locate(out)),),
    )


def with_warm_up_flow(config: TrainConfig, shards: Path) -> TrainConfig:
    """`config` with "auto" decided: the flow of phase 1 is estimated where a training pair came without alignment."""
    if config.warm_up_flow != "auto":
        return config
    with ShardReader(shards, split="train") as reader:
        known = all(is_registered(reader, pair) for pair in reader.pair_ids)
    return config.model_copy(update={"warm_up_flow": "stored" if known else "estimated"})


def in_steps(config: TrainConfig, patches: int) -> TrainConfig:
    """`config` with `epochs`, if it counts in them, as steps: an epoch takes as many crops as there are patches."""
    if config.epochs is None:
        return config
    steps = max(1, math.ceil(config.epochs * patches / config.batch))
    return config.model_copy(update={"steps": steps, "epochs": None})


def begin(
    fabric: Fabric, out: Path, state: State, config: TrainConfig, data: DataSet, *, resume: bool, overwrite: bool
) -> int:
    """Restores the latest checkpoint, or sees to it that none is in the way. Returns the steps already done."""
    # As the first process sees the folder before it changes anything there.
    present = fabric.broadcast(checkpoint.checkpoints(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder", hint="give another --out: the folder of the run")
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other", hint="leave one of them out")
    if resume:
        restore_state(checkpoint.latest(out), state, config, data)
    elif present and not overwrite:
        raise InputError(
            f"{out} already holds a training run ({present[-1].name})",
            hint="--resume goes on with it, --overwrite starts anew; or give another --out",
        )
    elif config.weights is not None:
        start_from(config.weights, state)
    elif config.frozen_fraction:
        raise ConfigError(
            f"frozen_fraction = {config.frozen_fraction} freezes a network that has not learnt anything yet",
            hint="give the weights it starts from (--weights), or set [train] frozen_fraction to 0",
        )
    fabric.barrier()
    if fabric.is_global_zero:
        if not resume:
            checkpoint.remove_all(out)
        write_text(out / "config.json", config.model_dump_json(indent=2) + "\n")
    return state.step


@contextmanager
def stop_requested(fabric: Fabric) -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C or SIGTERM came, to any process. Only the main thread can listen.

    A second one interrupts at once, but not within a second: `torchrun` passes on what its children got already.
    """
    on_any = any_process(fabric)
    came: list[float] = []

    def note(number: int, frame: object) -> None:
        if came and time.monotonic() > came[0] + _ONE_PRESS_S:
            raise KeyboardInterrupt
        came.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():
        yield lambda: on_any(False)
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: on_any(bool(came))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(
    fabric: Fabric,
    state: State,
    data: DataSet,
    config: TrainConfig,
    estimate_flow: FlowEstimator,
    out: Path,
    logs: Logs | None,
    stop: Callable[[], bool],
    track: Track,
) -> None:
    """All remaining steps; logs, draws, validates and saves at their intervals and at the end.

    `logs` is None in every process but the first.

    Raises:
        KeyboardInterrupt: It was asked to stop; the checkpoint is written.
    """
    fixed = (data.validation[0] if data.validation else load_batch(data.crops, 0, 1)).to(fabric.device)
    on_cuda = fabric.device.type == "cuda"
    batches = loader(
        data.crops, state.step, config, pin_memory=on_cuda, rank=fabric.global_rank, ranks=fabric.world_size
    )
    parts = (batch.to(fabric.device) for batch in batches)
    rows: list[Tensor] = []
    with track("train", config.steps - state.step) as advance:
        while state.step < config.steps:
            rows.append(train_step(fabric, state, islice(parts, config.accumulate), config, estimate_flow))
            state.step += 1
            note = ""
            stopping = stop()
            ending = stopping or state.step == config.steps
            validating = bool(data.validation) and due(state.step, config.validate_every, config)
            saving = ending or validating or due(state.step, config.save_every, config)
            # Numbers are looked at only now and then: each look waits for the device.
            if saving or due(state.step, config.log_every, config):
                note = log_rows(fabric, rows, state, data, config, out, logs)
                rows = []
            if state.step % config.sample_every == 0:
                sample = sample_of(fabric, state, fixed, config, estimate_flow)
                if logs is not None:
                    draw_sample(sample, data.encoding, config.reblur_radius_px, logs, state.step)
            if validating:
                validate(fabric, state, data, logs)
            if saving and fabric.is_global_zero:
                save(out, state, config, data)
            if saving:
                fabric.barrier()
            advance(note=note)
            if stopping:
                break
    if state.step < config.steps:
        raise KeyboardInterrupt(f"saved after step {state.step}; the same command with --resume goes on from there")


def due(step: int, every: int, config: TrainConfig) -> bool:
    """Whether something done `every` so many steps, and at the end, is due."""
    return step % every == 0 or step == config.steps


def log_rows(
    fabric: Fabric,
    rows: list[Tensor],
    state: State,
    data: DataSet,
    config: TrainConfig,
    out: Path,
    logs: Logs | None,
) -> str:
    """Checks the latest steps' numbers and logs their means. Returns a word for the progress bar.

    Raises:
        SddError: One is not finite; the batch that made it is saved.
    """
    values = mean_over_processes(fabric, torch.stack(rows)).cpu()
    wrong = (~torch.isfinite(values).all(dim=1)).nonzero()
    if len(wrong):
        step = state.step - len(rows) + int(wrong[0])
        raise diverged(step, data.crops, config.batch, out, write=fabric.is_global_zero)
    means = dict(zip(COLUMNS, values.mean(dim=0).tolist(), strict=True))
    step = state.step - 1
    plan = {"learning_rate": schedule.learning_rate(step, config), "joint": step >= schedule.joint_start_step(config)}
    if logs is not None:
        logs.write("train", state.step, {**means, **plan})
    return f"{schedule.phase(step, config)}, loss {means['loss']:.4f}"


@torch.no_grad()
def validate(fabric: Fabric, state: State, data: DataSet, logs: Logs | None) -> None:
    """Mean PSNR of the averaged network, and of its input, against the aligned sharp crops, shared by all processes."""
    scores = torch.zeros(len(data.validation), 2, device=fabric.device)
    for number in range(fabric.global_rank, len(data.validation), fabric.world_size):
        batch = data.validation[number].to(fabric.device)
        with fabric.autocast():
            deblurred = restore(state.average, batch.blur)[0].float().clamp(0, 1)
        pair = (deblurred, batch.blur)
        scores[number] = torch.cat([psnr(image, batch.sharp_on_blur, batch.valid) for image in pair])
    deblurred_db, input_db = sum_over_processes(fabric, scores).nanmean(dim=0).tolist()
    # No valid pixel in any crop: no number that a later one could improve on.
    state.validation_psnr_db = None if math.isnan(deblurred_db) else deblurred_db
    if logs is not None:
        logs.write("val", state.step, {"psnr_db": deblurred_db, "input_psnr_db": input_db})
