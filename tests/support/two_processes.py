"""The program of the two processes of test_processes.py, started with the environment of `torchrun`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from jdrl.config import TrainConfig
from jdrl.training.train import train
from sdd_toolkit.errors import SddError

WILD = {"learning_rate": 1e30, "final_learning_rate": 1e30, "gradient_norm": 0}


class TwoStages(nn.Module):
    """A network with two outputs, so that reblurring runs twice a step, and an unused weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        early = blurred + 0.1 * self.first(blurred)
        return [early + 0.1 * self.second(early), early]


def press_ctrl_c_when_exists(path: Path) -> None:
    while not path.is_file():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def main(shards: Path, out: Path, config: TrainConfig) -> None:
    torch.set_num_threads(1)
    train(shards, out / "whole", config)
    train(shards, out / "parts", config.model_copy(update={"accumulate": 2}))
    try:
        train(shards, out / "diverged", config.model_copy(update=WILD))
    except SddError as error:
        sys.stdout.write(error.what + "\n")
    if os.environ["RANK"] == "1":
        table = out / "stopped" / "train.csv"
        threading.Thread(target=press_ctrl_c_when_exists, args=[table], daemon=True).start()
    try:
        train(shards, out / "stopped", config.model_copy(update={"steps": 100_000}))
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), TrainConfig.model_validate_json(sys.argv[3]))
