"""Sizes of the questions on a GPU and, tiny, on a CPU; clocks and peak memory of either."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
Report = Callable[[Row], None]
"""Takes a row of a question's table as soon as it is known."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the questions are.

    Attributes:
        device: `cuda` or `cpu`.
        networks: Names and options of the networks that are trained and run.
        crop: Side of the training crops, pixels.
        batches: Crops a step.
        repeats: Timed runs of everything.
        frame: (height, width) of the photograph that is deblurred.
        pairs: (number, width, height) of the virtual pairs.
        workers: Numbers of loader processes.
        backend: Of torch.compile.
        training_s: Length of the training.
    """

    device: str
    networks: dict[str, dict[str, object]]
    crop: int
    batches: tuple[int, ...]
    repeats: int
    frame: tuple[int, int]
    pairs: tuple[int, int, int]
    workers: tuple[int, ...]
    backend: str
    training_s: float

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def precisions(self) -> dict[str, torch.dtype]:
        return {"fp32": torch.float32, "bf16": torch.bfloat16}


GPU = Scale(
    device="cuda",
    networks={"unet": {}, "nafnet": {}},
    crop=256,
    batches=(8, 32),
    repeats=10,
    frame=(2160, 4096),
    pairs=(48, 768, 512),
    workers=(0, 8),
    backend="inductor",
    training_s=300.0,
)
CPU = Scale(
    device="cpu",
    networks={"nafnet": {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}},
    crop=32,
    batches=(1, 2),
    repeats=1,
    frame=(54, 102),
    pairs=(3, 96, 64),
    workers=(0,),
    backend="eager",
    training_s=600.0,
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a question is given.

    Attributes:
        scale: Its sizes.
        folder: Holds the data set `shards` and the runs.
        limit_s: Seconds after which it is stopped.
    """

    scale: Scale
    folder: Path
    limit_s: float

    @property
    def shards(self) -> Path:
        """The virtual data set.

        Raises:
            FileNotFoundError: Its question failed or was left out.
        """
        path = self.folder / "shards"
        if not (path / "index.json").is_file():
            raise FileNotFoundError("no data set: the question `data` failed or was left out")
        return path


def seconds(run: Callable[[], object], scale: Scale, warm_ups: int = 3) -> float:
    """Mean seconds of a run by the clock, the device waited for, after `warm_ups` (one on the CPU)."""
    for _ in range(warm_ups if scale.on_gpu else 1):
        run()
    wait(scale)
    start = time.perf_counter()
    for _ in range(scale.repeats):
        run()
    wait(scale)
    return (time.perf_counter() - start) / scale.repeats


def wait(scale: Scale) -> None:
    if scale.on_gpu:
        torch.cuda.synchronize()


def reset_peak(scale: Scale) -> None:
    if scale.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb(scale: Scale) -> float | None:
    """Peak memory of tensors since `reset_peak`; None on the CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if scale.on_gpu else None


def milliseconds(value_s: float) -> float:
    return round(1e3 * value_s, 3)
