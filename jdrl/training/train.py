"""`sdd train`: from shards to checkpoints. One file, functions in the order in which they are called.

Two phases (JDRL, Li et al., AAAI 2023). Warm-up: the output is compared with the sharp frame warped by the flow
stored in the shards, while the reblurring network is trained beside it. Joint: output and sharp frame are warped onto
each other by flow estimated on the fly, and the output, reblurred, must equal the blurred frame. Fine-tuning has a
phase before them in which the reblurring network alone is trained.

Several processes run the same steps side by side, each on its share of the crops; the first one writes all files.
No split but `train` and `val` is opened.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.arguments import DEFAULT, default_checkpoint
from jdrl.config import TrainConfig
from jdrl.data.crops import build_loader, load_batch
from jdrl.data.training_data import TrainingData, load_training_data
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.training import schedule
from jdrl.training.collapse import CollapseWatch, spread_px
from jdrl.training.divergence import save_diverged_batch
from jdrl.training.logs import Logs, open_logs
from jdrl.training.processes import build_any_process, mean_over_processes, start_processes
from jdrl.training.registration import load_or_register, write_motions
from jdrl.training.samples import build_sample, draw_sample
from jdrl.training.settings import (
    epochs_to_steps,
    resolve_settings,
    settings_of_run,
)
from jdrl.training.state import (
    TrainingState,
    build_state,
    load_initial_weights,
    load_state,
    save_state,
)
from jdrl.training.step import COLUMNS, RADIUS_COLUMNS, train_step
from jdrl.training.summary import describe_run
from jdrl.training.validation import validate
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.records import Report
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.targets import check_own, check_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric

    from jdrl.data.batch import Batch
    from sdd_toolkit.execution.progress import Track

_SAME_SIGNAL_S = 1.0


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """The parts of a run that no step changes.

    Attributes:
        fabric: Of this process.
        out: Folder of the run.
        config: The `[train]` section, with `epochs` as steps and "auto" resolved.
        data: Training and validation crops.
        estimate_flow: Flow estimator of the joint phase.
    """

    fabric: Fabric
    out: Path
    config: TrainConfig
    data: TrainingData
    estimate_flow: FlowEstimator


def train(
    shards: Path,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
    announce: Callable[[str], None] = lambda line: None,
) -> Report:
    """Trains on the `train` split of `shards` and writes checkpoints and logs to `out`.

    A run that was interrupted and resumed gives, on a CPU with the same number of threads, the same bytes as an
    uninterrupted one. Ctrl-C and SIGTERM, to any of its processes, finish the step, save and raise KeyboardInterrupt.

    Args:
        shards: Folder with index.json.
        out: Folder of the run.
        config: The `[train]` section.
        resume: Continue from the run's latest checkpoint.
        overwrite: Start anew although `out` holds checkpoints.
        track: Shows progress.
        announce: Gets the lines that say what the run has decided, before its first step.

    Raises:
        InputError: No usable data, or `out` holds another run.
        SddError: The loss is not finite; the batch that produced it is saved.
        ConfigError: A value of `config` does not fit the data or the network.
        CheckpointError: The checkpoint to resume from does not fit `config` or `shards`, or weights do not fit.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    if resume:
        config = settings_of_run(config, checkpoint.latest_checkpoint(out))
    config = resolve_settings(config, shards)
    fabric = start_processes(config)
    state = build_state(fabric, config)
    estimate_flow = flow_estimator(config.flow, config.flow_weights)  # its weights may be missing: before all work
    motions = load_or_register(fabric, shards, out, track) if config.registration == "pairs" else {}
    data = load_training_data(shards, config, motions)
    config = epochs_to_steps(config, len(data.crops.patches))
    run = TrainingRun(fabric, out, config, data, estimate_flow)
    first = prepare_run(run, state, resume=resume, overwrite=overwrite)
    if motions and fabric.is_global_zero:
        write_motions(out, motions, data.sha256)
    if state.step < config.steps:
        writes = fabric.is_global_zero
        for line in describe_run(fabric, state, config, data, motions) if writes else ():
            announce(line)
        with open_logs(out, state.step) if writes else nullcontext() as logs, stop_requested(fabric) as stop:
            run_steps(run, state, logs, stop, track if writes else silent)
    return Report(
        stage="train",
        total=config.steps,
        done=state.step - first,
        skipped=first,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(checkpoint.locate(out)),),
    )


def prepare_run(run: TrainingRun, state: TrainingState, *, resume: bool, overwrite: bool) -> int:
    """Loads the latest checkpoint or the initial weights, and clears the folder. Returns the steps already done.

    Raises:
        InputError: The folder is a file, or holds another run.
        ConfigError: A network without weights would be frozen.
        CheckpointError: The checkpoint or the weights do not fit.
    """
    fabric, out, config = run.fabric, run.out, run.config
    # The list of the first process, made before it changes the folder.
    present = fabric.broadcast(checkpoint.list_checkpoints(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder", hint="give another --out: the folder of the run")
    check_own(
        [out / name for name in ("config.json", "registration.json", "train.csv", "val.csv", "latest", "best")],
        kind="run",
        overwrite=overwrite,
    )
    if not (resume or (out / "config.json").is_file()):
        check_targets(sorted(out.glob("samples/step-*.png")), overwrite=overwrite)
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other", hint="leave one of them out")
    if resume:
        load_state(checkpoint.latest_checkpoint(out), state, config, run.data)
    elif present and not overwrite:
        raise InputError(
            f"{out} already holds a training run ({present[-1].name})",
            hint="--resume goes on with it, --overwrite starts anew; or give another --out",
        )
    elif config.weights is not None:
        load_initial_weights(default_checkpoint() if config.weights == DEFAULT else Path(config.weights), state)
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
    """Yields a function: whether any process got Ctrl-C or SIGTERM. Signals reach the main thread only.

    A second signal interrupts at once, but not within a second: `torchrun` forwards a signal that its children have
    already received.
    """
    is_any = build_any_process(fabric)
    received_s: list[float] = []

    def receive(number: int, frame: object) -> None:
        if received_s and time.monotonic() > received_s[0] + _SAME_SIGNAL_S:
            raise KeyboardInterrupt
        received_s.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():
        yield lambda: is_any(False)
        return
    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: is_any(bool(received_s))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_steps(
    run: TrainingRun, state: TrainingState, logs: Logs | None, stop: Callable[[], bool], track: Track
) -> None:
    """Runs all remaining steps; logs, draws, validates and saves at their intervals and at the end.

    Args:
        run: The run.
        state: Changed by every step.
        logs: None in every process but the first.
        stop: Whether to stop after the current step.
        track: Shows progress.

    Raises:
        KeyboardInterrupt: A stop was requested; the checkpoint is written.
    """
    fabric, config, data = run.fabric, run.config, run.data
    sample_crop = (data.validation[0] if data.validation else load_batch(data.crops, 0, 1)).to(fabric.device)
    parts = load_parts(run, state.step)
    rows: list[Tensor] = []
    watch = CollapseWatch()
    with track("train", config.steps - state.step) as advance:
        while state.step < config.steps:
            rows.append(train_step(fabric, state, islice(parts, config.accumulate), config, run.estimate_flow))
            state.step += 1
            note = ""
            stopping = stop()
            ending = stopping or state.step == config.steps
            validating = bool(data.validation) and is_due(state.step, config.validate_every, config)
            saving = ending or validating or is_due(state.step, config.save_every, config)
            # Losses are read at intervals only: every read waits for the device.
            if saving or is_due(state.step, config.log_every, config):
                note = log_steps(run, rows, state, logs, watch)
                rows = []
            if state.step % config.sample_every == 0:
                write_sample(run, state, sample_crop, logs)
            if validating:
                scores = validate(fabric, state, data)
                if logs is not None:
                    logs.write("val", state.step, scores)
            if saving:
                if fabric.is_global_zero:
                    save_state(run.out, state, config, data)
                fabric.barrier()
            advance(note=note)
            if stopping:
                break
    if state.step < config.steps:
        raise KeyboardInterrupt(f"saved after step {state.step}; the same command with --resume goes on from there")


def load_parts(run: TrainingRun, first_step: int) -> Iterator[Batch]:
    """Yields this process's parts of all batches from `first_step` on, on the device."""
    fabric = run.fabric
    loader = build_loader(
        run.data.crops,
        first_step,
        run.config,
        pin_memory=fabric.device.type == "cuda",
        rank=fabric.global_rank,
        ranks=fabric.world_size,
    )
    return (batch.to(fabric.device) for batch in loader)


def is_due(step: int, every: int, config: TrainConfig) -> bool:
    """Whether a task with an interval of `every` steps is due; all are due at the last step."""
    return step % every == 0 or step == config.steps


def log_steps(
    run: TrainingRun, rows: list[Tensor], state: TrainingState, logs: Logs | None, watch: CollapseWatch
) -> str:
    """Checks the losses of the latest steps and logs their means. Returns the note for the progress bar.

    Raises:
        SddError: A loss is not finite; the batch that produced it is saved.
    """
    config = run.config
    values = mean_over_processes(run.fabric, torch.stack(rows)).cpu()
    diverged = (~torch.isfinite(values).all(dim=1)).nonzero()
    if len(diverged):
        step = state.step - len(rows) + int(diverged[0])
        raise save_diverged_batch(step, run.data.crops, config.batch, run.out, write=run.fabric.is_global_zero)
    means = dict(zip(COLUMNS, values.mean(dim=0).tolist(), strict=True))
    radius_px, mean_square_px2 = (means.pop(name) for name in RADIUS_COLUMNS)
    means |= {"reblur_radius_px": radius_px, "reblur_radius_spread_px": spread_px(radius_px, mean_square_px2)}
    step = state.step - 1
    joint = step >= schedule.joint_start_step(config)
    if logs is not None:
        rates = {
            "learning_rate": schedule.learning_rate(step, config),
            "reblur_learning_rate": schedule.reblur_learning_rate(step, config),
        }
        logs.write("train", state.step, {**means, **rates, "joint": joint})
        if state.reblur_network is not None and step >= config.rate_ramp_steps:
            moments = values[:, [COLUMNS.index(name) for name in RADIUS_COLUMNS]].tolist()
            watch.look(radius_px, [spread_px(*each) for each in moments])
    return f"{schedule.phase(step, config)}, loss {means['loss']:.4f}"


def write_sample(run: TrainingRun, state: TrainingState, crop: Batch, logs: Logs | None) -> None:
    """Computes a progress sample of one crop in every process and draws it in the first."""
    sample = build_sample(run.fabric, state, crop, run.config, run.estimate_flow)
    if logs is not None:
        draw_sample(sample, run.data.encoding, run.config.reblur_radius_px, logs, state.step)
