"""Training: phases, resuming, stopping, refused settings."""

from __future__ import annotations

import copy
import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.training.step import update_ema
from jdrl.training.train import train
from sdd_toolkit.errors import CheckpointError, ConfigError, InputError, SddError
from tests.support.ctrl_c import interrupting
from tests.support.paths import ROOT
from tests.support.planted_shards import MakeShards

FILES = ("network.safetensors", "training.safetensors", "checkpoint.json")


def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    train(shards, tmp_path / "whole", tiny)
    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path / "halves", tiny, track=interrupting(2))
    assert (tmp_path / "halves" / "latest").read_text() == "step-00000003\n"
    report = train(shards, tmp_path / "halves", tiny, resume=True)
    assert (report.skipped, report.done) == (3, 3)
    for name in FILES:
        path = Path("step-00000006") / name
        assert (tmp_path / "whole" / path).read_bytes() == (tmp_path / "halves" / path).read_bytes()
    tables = [(tmp_path / folder / "train.csv").read_text() for folder in ("whole", "halves")]
    assert tables[0] == tables[1]


def test_dropout_does_not_break_the_equality_of_a_resumed_run(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    unet = tiny.model_copy(update={"network": "unet", "network_options": {"width": 2}, "steps": 3})
    train(shards, tmp_path / "whole", unet)
    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path / "halves", unet, track=interrupting(1))
    train(shards, tmp_path / "halves", unet, resume=True)
    ends = [tmp_path / folder / "step-00000003" / FILES[1] for folder in ("whole", "halves")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_loader_processes_do_not_change_what_is_learnt(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    short = tiny.model_copy(update={"steps": 2})
    train(shards, tmp_path / "none", short)
    train(shards, tmp_path / "two", short.model_copy(update={"workers": 2}))
    ends = [tmp_path / folder / "step-00000002" / FILES[0] for folder in ("none", "two")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_both_phases_run_and_the_reblurring_term_joins_in_the_second(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    train(shards, tmp_path, tiny)
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [float(row["joint"]) for row in rows] == [0, 0, 0, 1, 1, 1]
    assert [float(row["deblur_sharp_frame"]) > 0 for row in rows] == [False] * 3 + [True] * 3
    assert list(csv.DictReader((tmp_path / "val.csv").open()))[-1]["step"] == "6"
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_test_split_is_never_opened(make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards")
    (folder / "test-0000.h5").unlink()
    assert train(folder, tmp_path / "run", tiny.model_copy(update={"steps": 1})).done == 1


def test_training_code_names_no_test_split() -> None:
    paths = [path for folder in ("training", "data", "checkpoints") for path in (ROOT / "jdrl" / folder).glob("*.py")]
    assert len(paths) > 15
    for path in paths:
        source = path.read_text(encoding="utf-8")
        assert '"test"' not in source
        assert "'test'" not in source


def test_a_validation_split_of_the_data_set_is_used_where_there_is_one(
    make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"train": 1, "val": 1})
    train(folder, tmp_path / "run", tiny.model_copy(update={"steps": 1}))
    assert (tmp_path / "run" / "val.csv").is_file()
    assert (tmp_path / "run" / "best").read_text() == "step-00000001\n"


def test_a_folder_that_holds_a_run_is_refused_without_resume_or_overwrite(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    one = tiny.model_copy(update={"steps": 1})
    train(shards, tmp_path, one)
    with pytest.raises(InputError, match="already holds") as caught:
        train(shards, tmp_path, one)
    assert "--resume" in caught.value.hint
    assert "--overwrite" in caught.value.hint
    with pytest.raises(InputError, match="exclude each other"):
        train(shards, tmp_path, one, resume=True, overwrite=True)
    assert train(shards, tmp_path, one, overwrite=True).done == 1
    assert len((tmp_path / "train.csv").read_text().splitlines()) == 2


def test_a_file_in_the_place_of_the_run_is_refused(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is no folder"):
            train(shards, tmp_path / "run", tiny, overwrite=overwrite)


def test_what_cannot_be_trained_leaves_the_earlier_run_alone(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"steps": 1}))
    with pytest.raises(ConfigError, match="pwcnet needs"):
        train(shards, tmp_path, tiny.model_copy(update={"flow": "pwcnet"}), overwrite=True)
    assert checkpoint.read_header(checkpoint.latest_checkpoint(tmp_path)).step == 1


def test_resuming_with_another_rate_or_data_set_is_refused(
    shards: Path, make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path
) -> None:
    one = tiny.model_copy(update={"steps": 1})
    train(shards, tmp_path / "run", one)
    with pytest.raises(CheckpointError, match=r"learning_rate = 0\.001, now it is 0\.1"):
        train(shards, tmp_path / "run", one.model_copy(update={"learning_rate": 0.1}), resume=True)
    with pytest.raises(CheckpointError, match="another data set"):
        train(make_shards(tmp_path / "other", flow=(1, 1)), tmp_path / "run", one, resume=True)
    with pytest.raises(CheckpointError, match="another data set"):
        train(make_shards(tmp_path / "unaligned", stored=False), tmp_path / "run", one, resume=True)


def test_a_run_may_go_on_with_less_memory_but_not_with_another_optimiser(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"steps": 1}))
    thrifty = tiny.model_copy(update={"steps": 2, "accumulate": 2, "gradient_checkpointing": True})
    assert train(shards, tmp_path, thrifty, resume=True).skipped == 1
    with pytest.raises(CheckpointError, match="optimiser = 'adamw', now it is 'adam'"):
        train(shards, tmp_path, tiny.model_copy(update={"optimiser": "adam"}), resume=True)


def test_resuming_from_nothing_says_so(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        train(shards, tmp_path, tiny, resume=True)


def test_half_precision_trains_both_phases(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    half = tiny.model_copy(update={"precision": "bf16-mixed", "steps": 2})
    assert train(shards, tmp_path, half).done == 2


def test_a_finished_run_can_be_made_longer(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"steps": 2}))
    report = train(shards, tmp_path, tiny.model_copy(update={"steps": 3}), resume=True)
    assert (report.skipped, report.done) == (2, 1)


def test_a_loss_that_is_no_number_stops_with_its_batch_saved(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    wild = tiny.model_copy(update={"learning_rate": 1e30, "final_learning_rate": 1e30, "gradient_norm": 1e30})
    with pytest.raises(SddError, match="not finite at step") as caught:
        train(shards, tmp_path, wild)
    (saved,) = tmp_path.glob("diverged-step-*.npz")
    assert str(saved) in caught.value.what
    batch = np.load(saved)
    assert batch["blur"].shape == (2, 3, 32, 32)
    for pair, top, left in zip(batch["pair"], batch["top"], batch["left"], strict=True):
        assert f"{pair} at ({left}, {top})" in caught.value.what


def test_only_the_newest_and_the_best_checkpoints_are_kept(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"save_every": 1, "keep": 2, "validation_fraction": 0.0}))
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step-00000005", "step-00000006"]


def test_a_crop_larger_than_the_patches_is_refused(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="crop = 65 is larger than the data set's patches of 64"):
        train(shards, tmp_path, tiny.model_copy(update={"crop": 65}))


def test_a_missing_training_shard_is_named(make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards")
    (folder / "train-0000.h5").unlink()
    with pytest.raises(SddError, match=r"train-0000\.h5"):
        train(folder, tmp_path / "run", tiny)


def test_a_cluster_that_ends_the_job_leaves_a_checkpoint(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path, tiny, track=interrupting(1, signal.SIGTERM))
    assert checkpoint.read_header(checkpoint.latest_checkpoint(tmp_path)).step == 2


def test_a_run_killed_at_any_moment_and_resumed_ends_with_the_same_bytes(
    shards: Path, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sums are rounded differently on another number of threads; these tests run on one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    often = tiny.model_copy(update={"save_every": 1, "steps": 16})
    train(shards, tmp_path / "whole", often)
    arguments = {"shards": shards, "out": tmp_path / "killed", "config": often}
    process = multiprocessing.get_context("spawn").Process(target=train, kwargs=arguments)
    process.start()
    while process.is_alive() and not (tmp_path / "killed" / "step-00000005").is_dir():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert train(shards, tmp_path / "killed", often, resume=True).skipped >= 4
    for name in FILES:
        path = Path("step-00000016") / name
        assert (tmp_path / "whole" / path).read_bytes() == (tmp_path / "killed" / path).read_bytes()


def test_ctrl_c_on_the_program_saves_and_exits_130(shards: Path, tmp_path: Path) -> None:
    config = tmp_path / "sdd.toml"
    config.write_text(
        "[train]\nsteps = 100000\ncrop = 32\nbatch = 1\nreblur_width = 4\nlog_every = 1\n"
        "network_options = {width = 4, encoder_blocks = [1], decoder_blocks = [1]}\n"
    )
    out = tmp_path / "run"
    command = [sys.executable, "cli.py", "train", str(shards), "--out", str(out), "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
        while not (out / "train.csv").is_file() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        stderr = process.stderr.read().decode()
    step = checkpoint.read_header(checkpoint.latest_checkpoint(out)).step
    assert step >= 1
    assert stderr.rstrip().endswith(f"after step {step}; the same command with --resume goes on from there")


def test_a_weight_that_two_modules_share_is_averaged_once() -> None:
    shared = torch.nn.PReLU(init=1.0)
    network = torch.nn.Sequential(shared, torch.nn.Conv2d(3, 3, 1), shared)
    average = copy.deepcopy(network)
    shared.weight.data.fill_(0.0)
    update_ema(average, network, 0.5)
    assert average[0].weight.item() == 0.5
    torch.testing.assert_close(average[1].weight, network[1].weight)
