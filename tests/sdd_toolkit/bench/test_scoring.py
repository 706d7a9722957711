from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sdd_toolkit.bench.figures import draw_strip, plot_psnr
from sdd_toolkit.bench.plan import LEVELS
from sdd_toolkit.bench.scenes import measure_displacement, scene_folder
from sdd_toolkit.bench.scoring import Label, ScoreRow, detail, read_scores
from sdd_toolkit.frames.writing import write_image

HEAD = "pair,image,protocol,psnr_db,ssim,drift_px,checkpoint\n"


def picture(blur_px: float = 0.0) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), blur_px) if blur_px else image


def test_scores_are_those_against_the_truth(tmp_path: Path) -> None:
    for role, blur_px in (("blur", 2.0), ("gt", 0.0)):
        write_image(tmp_path / role / "focus-scene-0001.png", picture(blur_px))
    write_image(tmp_path / "deblurred/focus-scene-0001_deblurred.png", picture(0.6))
    (tmp_path / "evaluation.csv").write_text(
        HEAD
        + "focus-scene-0001,input,unwarped,20.5,0.5,,\n"
        + "focus-scene-0001,deblurred,unwarped,25.25,0.75,0.125,x\n"
        + "focus-scene-0001,deblurred,aligned,30,0.9,0.125,x\n"
        + "mean,deblurred,unwarped,25.25,0.75,0.125,x\n",
        encoding="utf-8",
    )
    label = Label("jdrl", "displaced-08", 1)
    arguments = (tmp_path / "evaluation.csv", tmp_path, tmp_path / "deblurred", label)
    (row,) = read_scores(*arguments, with_input=False)
    assert (row.arm, row.psnr_db, row.ssim, row.drift_px, row.seed) == ("jdrl", 25.25, 0.75, 0.125, 1)
    assert 0.3 < row.sharpness < 0.9
    blurred, again = read_scores(*arguments, with_input=True)
    assert again == row
    assert (blurred.arm, blurred.psnr_db, blurred.drift_px) == ("input", 20.5, None)
    assert blurred.sharpness < 0.2


def test_detail_falls_with_blur() -> None:
    assert detail(picture()) > 2 * detail(picture(0.8)) > 4 * detail(picture(2.0))


def test_the_displacement_is_that_of_the_truth(tmp_path: Path) -> None:
    flow = np.zeros((10, 20, 2), np.float32)
    flow[..., 0], flow[:, :10, 1] = 3.0, 4.0
    np.savez(tmp_path / "truth.npz", displacement=flow, occlusion=np.eye(10, 20, dtype=bool))
    mean, p95, hidden = measure_displacement(tmp_path)
    assert (mean, p95, hidden) == (4.0, 5.0, 5.0)
    assert scene_folder(Path("raw"), "focus-scene-0003") == Path("raw/focus/scene-0003")


def test_the_plot_and_the_strip_are_drawn() -> None:
    rows = [
        ScoreRow(arm, level.name, 0, scene, 20.0 + number, 0.5, 0.1, 0.5)
        for number, arm in enumerate(("input", "oracle", "naive", "jdrl"))
        for level in LEVELS.values()
        for scene in ("a", "b")
    ]
    drawn = cv2.imdecode(np.frombuffer(plot_psnr(rows), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.std() > 10
    assert plot_psnr(rows) == plot_psnr(rows)
    plot_psnr([])
    strip = draw_strip({"input": picture(2.0), "truth": picture()}, crop_px=32)
    assert strip.shape == (22 + 64, 64 + 4 + 64, 3)
