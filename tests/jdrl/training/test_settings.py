"""Settings that follow from the data set or the beginning of a run, and the lines that tell them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.training.settings import FORMER_SETTINGS, resolve_light
from jdrl.training.state import prefers_channels_last
from jdrl.training.train import train
from sdd_toolkit.imaging.encoding import Encoding
from tests.support.planted_shards import MakeShards


def as_of_version_0_3(folder: Path) -> None:
    """Removes the younger keys from a checkpoint's header."""
    path = folder / checkpoint.HEADER
    content = json.loads(path.read_text())
    for key in (*FORMER_SETTINGS, "reblur_learning_rate"):
        del content["config"][key]
    path.write_text(json.dumps(content))


def test_a_run_of_an_earlier_version_goes_on_as_it_began(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    former = {**FORMER_SETTINGS, **TrainConfig.FORMER_DEFAULTS, "reblur_learning_rate": tiny.learning_rate}
    before = tiny.model_copy(update=former)
    train(shards, tmp_path / "whole", before)
    half = tmp_path / "half"
    train(shards, half, before.model_copy(update={"save_every": 3, "keep": 9}))
    as_of_version_0_3(half / "step-00000003")
    checkpoint.write_pointer(half, checkpoint.LATEST, half / "step-00000003")
    assert train(shards, half, tiny.model_copy(update={"save_every": 3, "keep": 9}), resume=True).skipped == 3
    ends = [folder / "step-00000006" / checkpoint.TRAINING for folder in (tmp_path / "whole", half)]
    assert ends[0].read_bytes() == ends[1].read_bytes()


@pytest.mark.parametrize(
    ("encoding", "chosen", "expected"),
    [
        (Encoding.SRGB8, "auto", "linear"),
        (Encoding.SRGB16, "auto", "linear"),
        (Encoding.SRGB8, "encoded", "encoded"),
        # Their values are linear light already.
        (Encoding.LINEAR16, "auto", "encoded"),
        (Encoding.LINEAR16, "linear", "encoded"),
    ],
)
def test_the_output_is_reblurred_as_light_where_the_curve_is_that_of_srgb(
    make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path, encoding: Encoding, chosen: str, expected: str
) -> None:
    folder = make_shards(tmp_path / "shards", encoding=encoding, scenes={"train": 1})
    assert resolve_light(tiny.model_copy(update={"reblur_light": chosen}), folder).reblur_light == expected


def test_one_cpu_thread_takes_channels_last_by_itself(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert prefers_channels_last(tiny, cpu)
    assert not prefers_channels_last(tiny, cuda)
    assert prefers_channels_last(tiny.model_copy(update={"channels_last": True}), cuda)
    assert not prefers_channels_last(tiny.model_copy(update={"channels_last": False}), cpu)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not prefers_channels_last(tiny, cpu)


def test_a_run_says_what_it_has_decided(make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", flow=(6, -3), size=(128, 160), patch=96, stored=False)
    lines: list[str] = []
    config = tiny.model_copy(update={"steps": 2, "crop": 96, "warm_up_fraction": 0.5})
    train(folder, tmp_path / "run", config, announce=lines.append)
    told = dict(line.split(": ", 1) for line in lines)
    assert told["device"] == "cpu, 1 process, 1 thread, 32-true, channels last"
    assert told["network"].startswith("nafnet, ")
    assert "hats up to 3 px, blurs linear light, weight 0.5, rate 0.000333333" in told["reblurring"]
    assert told["flow"].startswith("estimated in the warm-up (3 of 3 unaligned pairs registered whole), cached in the")
    assert told["steps"] == "1 warm-up + 1 joint, 2 crops of 96 px each"
    # Drift stands beside the scores.
    header, row = (tmp_path / "run" / "val.csv").read_text().splitlines()
    assert header == "step,psnr_db,input_psnr_db,drift_px"
    assert math.isfinite(float(row.split(",")[3]))
    lines.clear()
    train(folder, tmp_path / "alone", config.model_copy(update={"reblur_weight": 0.0}), announce=lines.append)
    assert "reblurring: none, nothing uses it" in lines
