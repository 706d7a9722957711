"""A training run of some minutes by `sdd train`'s own code, from the weights that ship, on virtual pairs as shot."""

from __future__ import annotations

import csv
import os
import signal
import threading
import time
from pathlib import Path

import torch

from benchmarks.gpu_questions.scale import Place, Report, Scale
from benchmarks.gpu_questions.shipped import WEIGHTS, shipped_header
from jdrl.config import TrainConfig
from jdrl.training.train import train

PROBE_STEPS = 30
STOPPING_S = 15.0  # from the signal to stop until the checkpoint is written
PROBE_SHARE = 0.9  # of the time that the probe leaves: validation and checkpoints take the rest


def training_question(place: Place, report: Report) -> None:
    """Trains for `training_s` in all: a probe tells how many steps fit, and the rate of learning falls over them."""
    scale, start = place.scale, time.perf_counter()
    steps = PROBE_STEPS if scale.on_gpu else 2
    probe = time.perf_counter()
    train(place.shards, place.folder / "probe", configured(scale, steps))
    a_step_s = (time.perf_counter() - probe) / steps
    whole_s = min(scale.training_s, place.limit_s - STOPPING_S)
    left_s = whole_s - (time.perf_counter() - start)
    count = max(2, int(PROBE_SHARE * left_s / a_step_s))
    run = place.folder / "run"
    stopped = run_until(left_s, place, configured(scale, count), run)
    spent = time.perf_counter() - start
    scores = list(csv.DictReader((run / "val.csv").open(encoding="utf-8")))
    header = shipped_header()
    for score in scores:
        report(
            {
                "start": "fresh network" if header is None else f"{WEIGHTS.name}, {header.network}",
                "step": int(score["step"]),
                "of": count,
                "PSNR db": round(float(score["psnr_db"]), 3),
                "input db": round(float(score["input_psnr_db"]), 3),
            }
        )
    report({"start": "stopped early" if stopped else "whole", "seconds": round(spent, 1), "ms a step": 1e3 * a_step_s})


def configured(scale: Scale, steps: int) -> TrainConfig:
    """The joint training of unaligned pairs, in bf16 on a GPU; of the network that ships, where there is one."""
    header = shipped_header()
    name, options = (
        next(iter(scale.networks.items())) if header is None else (header.network, dict(header.network_options))
    )
    return TrainConfig(
        network=name,
        network_options=options,
        weights=None if header is None else WEIGHTS,
        steps=steps,
        warm_up_fraction=0.3,
        warm_up_flow="estimated",
        flow="pyramid",
        crop=scale.crop,
        batch=scale.batches[0],
        workers=scale.workers[-1],
        rate_ramp_steps=min(100, steps // 10),
        device=scale.device,
        precision="bf16-mixed" if scale.on_gpu else "32-true",
        channels_last=scale.on_gpu,
        validation_crops=16 if scale.on_gpu else 1,
        validate_every=max(1, steps // 6),
        save_every=steps,
        sample_every=10 * steps,
    )


def run_until(seconds: float, place: Place, config: TrainConfig, out: Path) -> bool:
    """Trains; after `seconds` the run is asked to stop and save. Returns whether it was."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        train(place.shards, out, config)
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return False
