"""`sdd train`: from shards to checkpoints. One file, functions in the order in which they are called.

Two phases (JDRL, Li et al., AAAI 2023). Warm-up: the output is compared with the sharp frame warped by the flow
stored in the shards, while the reblurring network learns on the side. Joint: output and sharp frame are warped onto
each other by flow estimated on the fly, and the output, reblurred, must give back the blurred frame.

Nothing here opens any split but `train` and `val`.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from jdrl import checkpoint, schedule
from jdrl.config import TrainConfig
from jdrl.data import Batch, DataSet, batch_of, loader, set_up_data
from jdrl.device import device_name
from jdrl.flow import flow_estimator
from jdrl.logs import Logs, opened
from jdrl.metrics import psnr
from jdrl.networks import restore
from jdrl.step import COLUMNS, train_step
from jdrl.training_state import State, restore_state, save, set_up_state
from sdd_toolkit.errors import InputError, SddError
from sdd_toolkit.files import replacing, write_text
from sdd_toolkit.progress import silent
from sdd_toolkit.types import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sdd_toolkit.progress import Track

_LOG = logging.getLogger(__name__)


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
    estimate_flow = flow_estimator(config.flow, config.flow_weights)
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
    arrays = {field.name: getattr(batch, field.name).numpy() for field in fields(batch)}
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)
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
