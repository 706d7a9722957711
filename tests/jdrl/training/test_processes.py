"""Several processes train as one would, and stop together."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.training.processes import crops_per_forward, process_counts
from jdrl.training.train import train
from sdd_toolkit.errors import ConfigError
from tests.support.paths import ROOT

TORCHRUN = {"TORCHELASTIC_RUN_ID": "any", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5"}


@dataclass(frozen=True)
class Pair:
    """The output folder of two processes, and the standard output of each."""

    out: Path
    stdout: tuple[str, str]
    config: TrainConfig


@pytest.fixture(scope="module")
def pair(shards: Path, tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    out = tmp_path_factory.mktemp("pair")
    own = {"network": "tests.support.two_processes:TwoStages", "network_options": {}}
    config = tiny.model_copy(update={**own, "batch": 4, "sample_every": 4, "validation_crops": 3})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
    }
    script = [sys.executable, str(ROOT / "tests/support/two_processes.py")]
    words = [*script, str(shards), str(out), config.model_dump_json()]
    processes = [
        subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        answers = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], answers
    return Pair(out, (answers[0][0], answers[1][0]), config)


def curve(path: Path) -> np.ndarray:
    rows = list(csv.DictReader(path.open()))
    return np.array([[float(value) for value in row.values()] for row in rows])


@pytest.mark.parametrize("folder", ["whole", "parts"])
def test_two_processes_follow_the_loss_curve_of_one(pair: Pair, shards: Path, tmp_path: Path, folder: str) -> None:
    train(shards, tmp_path, pair.config)
    for table in ("train.csv", "val.csv"):
        alone, together = curve(tmp_path / table), curve(pair.out / folder / table)
        assert len(alone) == (6 if table == "train.csv" else 1)
        np.testing.assert_allclose(together, alone, rtol=2e-4)


def test_one_of_the_processes_writes_what_both_have_learnt(pair: Pair) -> None:
    whole = pair.out / "whole"
    assert [folder.name for folder in checkpoint.list_checkpoints(whole)] == ["step-00000006"]
    assert [picture.name for picture in (whole / "samples").iterdir()] == ["step-00000004.png"]


def test_a_loss_that_is_no_number_stops_all_processes_and_names_the_crops_of_all(pair: Pair) -> None:
    (saved,) = (pair.out / "diverged").glob("diverged-step-*.npz")
    batch = np.load(saved)
    assert batch["blur"].shape == (4, 3, 32, 32)
    for said in pair.stdout:
        for pair_id, top, left in zip(batch["pair"], batch["top"], batch["left"], strict=True):
            assert f"{pair_id} at ({left}, {top})" in said


def test_ctrl_c_on_one_process_stops_all_at_the_same_step(pair: Pair) -> None:
    assert [said.splitlines()[-1] for said in pair.stdout] == ["stopped", "stopped"]
    steps = curve(pair.out / "stopped" / "train.csv")[:, 0]
    assert checkpoint.read_header(checkpoint.latest_checkpoint(pair.out / "stopped")).step == steps[-1] < 100_000


def test_the_launcher_determines_the_number_of_processes() -> None:
    config = TrainConfig(devices=2, nodes=3)
    assert process_counts(config, {}) == (2, 3)
    assert process_counts(config, TORCHRUN) == (4, 2)
    assert process_counts(config, {**TORCHRUN, "LT_CLI_USED": "1", "LT_DEVICES": "4"}) == ("auto", 1)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    assert crops_per_forward(TrainConfig(batch=12, accumulate=3), 2) == 2
    with pytest.raises(ConfigError, match="batch = 8 cannot be shared by 2 processes in 3 parts") as caught:
        crops_per_forward(TrainConfig(batch=8, accumulate=3), 2)
    assert "a multiple of 6" in caught.value.hint
