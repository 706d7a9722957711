"""Overfits one virtual pair with six pixels of misalignment: the claim of the method, from files to an image."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import render_pair
from jdrl.checkpoints.checkpoint import latest_checkpoint
from jdrl.checkpoints.deblurrer import of_checkpoint
from jdrl.config import TrainConfig
from jdrl.data.aligned_crops import image_to_tensor
from jdrl.inference.deblur import deblur
from jdrl.metrics.drift import estimate_drift
from jdrl.metrics.fidelity import psnr
from jdrl.training.train import train
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.encoding import srgb_encode
from tests.support.command_line import sdd_in_process

SHIFT_PX, SIDE_PX = 6, 96
WINDOW = (slice(32, 32 + SIDE_PX), slice(64, 64 + SIDE_PX))
MOVED = (WINDOW[0], slice(64 + SHIFT_PX, 64 + SHIFT_PX + SIDE_PX))


def codes(linear: np.ndarray) -> np.ndarray:
    return np.rint(255 * srgb_encode(np.clip(linear, 0, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDD's layout of one pair, imported, and `truth.png`: the all-in-focus image in the blurred frame's geometry."""
    data = tmp_path_factory.mktemp("overfit")
    pair = render_pair(SimulateConfig(width=256, height=192, min_coc_px=2.0, max_coc_px=5.0), "focus", 3, 0)
    write_image(data / "SDD/train_patches/blur/0001.png", codes(pair.blur_linear[WINDOW]))
    write_image(data / "SDD/train_patches/gt/0001.png", codes(pair.truth.aligned[MOVED]))
    write_image(data / "truth.png", codes(pair.truth.aligned[WINDOW]))
    (data / "sdd.toml").write_text(f"[pack]\npatch_size = {SIDE_PX}\n")
    sdd_in_process("import", data / "SDD", "--out", data / "shards", "--config", data / "sdd.toml")
    return data


def deblurred_after_training(folder: Path, out: Path, **changes: object) -> Tensor:
    """The pair's blurred frame, (1, 3, H, W), deblurred by a network trained on the pair."""
    config = TrainConfig(
        network_options={"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]},
        reblur_width=8,
        steps=80,
        learning_rate=2e-3,
        rate_ramp_steps=10,
        ema=0.0,
        crop=SIDE_PX,
        batch=1,
        augment=False,
        device="cpu",
    ).model_copy(update=changes)
    train(folder / "shards", out, config)
    deblurrer = of_checkpoint(latest_checkpoint(out))
    return deblur(deblurrer.network, picture(folder, "SDD/train_patches/blur/0001.png")[0], tile=0, overlap=0)[None]


def picture(folder: Path, name: str) -> Tensor:
    return image_to_tensor(read_image(folder / name))


def drift_px(output: Tensor, blurred: Tensor) -> float:
    found = estimate_drift(output, blurred, block=48).mean_px
    assert found is not None
    return found


def best_shift_px(output: Tensor, truth: Tensor, reach_px: int = 8) -> int:
    """The horizontal shift in whole pixels at which the truth is nearest to the output."""
    inner = output[..., reach_px:-reach_px]
    width = truth.shape[-1] - 2 * reach_px
    apart = {
        shift: float((inner - truth[..., reach_px + shift :][..., :width]).square().mean())
        for shift in range(-reach_px, reach_px + 1)
    }
    return min(apart, key=apart.__getitem__)


def test_six_pixels_of_misalignment_are_not_learnt(folder: Path, tmp_path: Path) -> None:
    plain: dict[str, Literal["stored"] | float] = {"warm_up_flow": "stored", "warm_up_fraction": 1.0}
    outputs = {
        "plain": deblurred_after_training(folder, tmp_path / "plain", **plain),
        "jdrl": deblurred_after_training(folder, tmp_path / "jdrl"),
    }
    blurred, truth = picture(folder, "SDD/train_patches/blur/0001.png"), picture(folder, "truth.png")
    scores = {name: float(psnr(output, truth)) for name, output in outputs.items()}
    assert drift_px(outputs["jdrl"], blurred) < 0.3
    assert scores["jdrl"] > scores["plain"] + 2
    assert scores["jdrl"] > float(psnr(blurred, truth)) + 1
    # The problem that the method solves: a plain pixel loss moves the image to the position of the sharp frame.
    assert abs(best_shift_px(outputs["plain"], truth)) > 3
    assert best_shift_px(outputs["jdrl"], truth) == 0
    assert torch.isfinite(outputs["jdrl"]).all()
