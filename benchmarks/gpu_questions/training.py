"""A training run of some minutes by `sdd train`'s own code, from the weights that ship, on virtual pairs as shot."""

from __future__ import annotations

import csv
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    steps = PROBE_STEPS if scale.on_gpu else 3
    a_step_s = probed(place, steps)
    whole_s = min(scale.training_s, place.limit_s - STOPPING_S)
    left_s = whole_s - (time.perf_counter() - start)
    count = max(2, int(PROBE_SHARE * left_s / a_step_s)) if scale.on_gpu else 2
    run = place.folder / "run"
    stopped = run_until(left_s, place, configured(scale, count), run)
    spent = time.perf_counter() - start
    header = shipped_header()
    for score in [*read_scores(place.folder / "probe"), *read_scores(run)]:
        report(
            {
                "start": "fresh network" if header is None else f"{WEIGHTS.name}, {header.network}",
                "step": score["step"],
                "of": count,
                "PSNR db": score["psnr_db"],
                "input db": score["input_psnr_db"],
            }
        )
    report({"start": "stopped early" if stopped else "whole", "seconds": round(spent, 1), "step ms": 1e3 * a_step_s})


def probed(place: Place, steps: int) -> float:
    """Seconds of a step, from the middle third of a run that changes nothing; its score is that of the start."""
    ends: list[float] = []

    @contextmanager
    def track(name: str, total: int) -> Iterator[Callable[..., None]]:
        del total
        yield lambda *_, **__: ends.append(time.perf_counter()) if name == "train" else None

    still = {"learning_rate": 1e-12, "final_learning_rate": 0.0, "validate_every": steps}
    config = configured(place.scale, steps).model_copy(update=still)
    train(place.shards, place.folder / "probe", config, track=track)
    return (ends[2 * steps // 3 - 1] - ends[steps // 3 - 1]) / (steps // 3)


def read_scores(run: Path) -> list[dict[str, float]]:
    with (run / "val.csv").open(encoding="utf-8") as rows:
        scores = list(csv.DictReader(rows))
    return [
        {
            "step": 0 if run.name == "probe" else int(score["step"]),
            **{name: round(float(score[name]), 3) for name in ("psnr_db", "input_psnr_db")},
        }
        for score in scores
    ]


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

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Before and after the steps, while they have no handler of their own.
    before = signal.signal(signal.SIGTERM, interrupt)
    timer = threading.Timer(max(1.0, seconds), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        train(place.shards, out, config)
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return False
