"""The benchmark of aligners: its truth is exact, its sums are right, its run and its page are whole."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from alignment.registration.alignment_record import identity_alignment
from benchmarks.alignment_sections import (
    calibration,
    comparison,
    honesty,
    measurement,
    photographs,
    planted,
    scenes,
    tables,
)
from benchmarks.alignment_sections.measurement import Measurement, values
from sdd_toolkit.imaging import geometry
from sdd_toolkit.records import Reason
from tests.support.paths import ROOT

SIZE = (200, 240)
PERIODS_PX = ((9.0, 0.4), (13.0, 1.7), (31.0, 2.6))


def waves(x: NDArray[np.float64], y: NDArray[np.float64], radius_px: float = 0.0) -> NDArray[np.float64]:
    """A picture known between its pixels, and under a disc: each wave weakens by 2 J1(kr) / kr, and by the pixels."""
    light = np.full(x.shape, 0.5)
    for period, angle in PERIODS_PX:
        kr, right, down = 2 * np.pi / period * radius_px, np.cos(angle) / period, np.sin(angle) / period
        weakened = 2 * special.j1(kr) / kr * np.sinc(right) * np.sinc(down) if radius_px else 1.0
        light += 0.15 * weakened * np.sin(2 * np.pi * (right * x + down * y))
    return light


def grids(size: tuple[int, int], margin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ys, xs = np.mgrid[-margin : size[0] + margin, -margin : size[1] + margin].astype(np.float64)
    return xs, ys


@pytest.mark.parametrize("motion", [planted.SMALL, planted.LARGE])
def test_the_planted_motion_is_exact_to_a_thousandth_of_a_pixel(motion: planted.Motion) -> None:
    scene = waves(*grids(SIZE, 60))[..., None].astype(np.float32)
    shift = replace(motion, shift_px=(0, 8))
    homography = planted.draw_homography(shift, SIZE, np.random.default_rng(5))
    found = planted.warp_exactly(scene, 60, homography, SIZE, 4)[..., 0]
    xs, ys = grids(SIZE, 4)
    there = geometry.project(homography, np.stack([xs.ravel(), ys.ravel()], axis=1))
    true = waves(there[:, 0], there[:, 1]).reshape(xs.shape)
    # The steepest wave climbs by 0.15 * 2 pi / 9 = 0.1 a pixel.
    assert np.abs(found - true).max() < 0.1 * 1e-3
    assert np.abs(found - waves(xs, ys)).max() > 0.1


@pytest.mark.parametrize("radius_px", [4.0, 8.0])
def test_the_disc_weakens_every_wave_as_theory_says_and_moves_none(radius_px: float) -> None:
    ring = int(radius_px) + 1
    sharp = np.repeat(waves(*grids(SIZE, ring))[..., None], 3, axis=2)
    found = planted.blur_by_disc(sharp, radius_px, ring)[..., 0]
    true = waves(*grids(SIZE, 0), radius_px)
    assert np.abs(found - true).max() < 1e-3
    shift = cv2.phaseCorrelate(found, true)[0]
    assert np.abs(shift).max() < 1e-3


def test_a_drawn_motion_keeps_to_its_limits() -> None:
    size = (1184, 1896)
    for seed in range(20):
        words = geometry.decompose(planted.draw_homography(planted.LARGE, size, np.random.default_rng(seed)), size)
        assert 0.045 < abs(words.zoom - 1) < 0.105
        assert 0.9 < abs(words.rotation_deg) < 2.1
        assert 47 < math.hypot(*words.shift_px) < 102
        assert words.perspective_px < 4


def photograph(path: Path, seed: int, size: tuple[int, int] = (400, 480)) -> None:
    noise = np.random.default_rng(seed).random((*size, 3)).astype(np.float32)
    smooth = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4.0, 12.0))
    cv2.imwrite(str(path), cv2.normalize(smooth, None, 10, 245, cv2.NORM_MINMAX).astype(np.uint8))


def test_photographs_smaller_than_the_frame_lie_side_by_side_without_a_seam(tmp_path: Path) -> None:
    for number, level in enumerate((60, 180)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((100, 140, 3), level, np.uint8))
    paths = photographs.list_photographs(tmp_path)
    scene, margin = photographs.scene(paths, 0, (250, 300), 10, 10)
    assert (scene.shape, margin) == ((270, 320, 3), 10)
    assert np.abs(np.diff(scene[..., 1], axis=1)).max() < 0.03
    assert scene.max() - scene.min() > 0.3
    alone, margin = photographs.scene(paths, 1, (60, 120), 30, 20)
    assert (alone.shape, margin) == ((100, 140, 3), 20)


def test_an_aligner_that_breaks_has_found_nothing() -> None:
    def broken(blur: object, sharp: object) -> None:
        raise RuntimeError("no")

    frame = np.zeros((8, 8, 3), np.float32)
    assert comparison.homography_or_none(broken, frame, frame) is None
    assert comparison.homography_or_none(lambda a, b: np.full((3, 3), np.nan), frame, frame) is None
    assert comparison.homography_or_none(lambda a, b: np.eye(3), frame, frame) is not None


def test_no_answer_counts_as_infinitely_wrong() -> None:
    assert measurement.median([0.1, math.nan, 0.3]) == 0.3
    assert measurement.median([math.nan, math.nan, 0.3]) == math.inf
    assert tables.spread([0.1, math.nan, 0.3]) == "0.300 (0.300)"
    assert tables.wrong([0.1, math.nan, 3.0]) == "2/3"


def test_rank_correlation_puts_refused_pairs_last_and_averages_ties() -> None:
    pairs = [(0.1, 0.2), (0.2, 0.3), (0.3, 0.9), (9.0, math.nan), (7.0, math.nan)]
    # Ranks 1 2 3 5 4 against 1 2 3 4.5 4.5.
    assert honesty.rank_correlation(pairs) == pytest.approx(9.5 / math.sqrt(10 * 9.5))
    assert honesty.refused_fraction(pairs) == 0.4


def test_loops_take_every_way_and_add_estimates_in_quadrature() -> None:
    assert calibration.loops_of(4) == [(0, 1, 3), (0, 2, 3), (0, 1, 2), (1, 2, 3)]
    assert calibration.distinct_pairs([(0, 1, 2)]) == [(0, 1), (0, 2), (1, 2)]
    still = replace(identity_alignment((80, 60)), error_px=0.3)
    moved = replace(still, rows=((1.0, 0.0, 3.0), (0.0, 1.0, 4.0), (0.0, 0.0, 1.0)), error_px=0.4)
    gap, estimate = calibration.loop_error_px(still, moved, still)
    assert (gap, estimate) == (pytest.approx(5.0), pytest.approx(math.hypot(0.3, 0.4, 0.3)))
    refused = replace(moved, failure=Reason.NOT_ALIGNED, error_px=None)
    assert all(math.isnan(value) for value in calibration.loop_error_px(still, refused, still))


def test_shares_within_the_estimate_leave_refused_cases_out() -> None:
    cases = {"a": [(1.0, 2.0), (3.0, 2.0), (9.0, 2.0), (math.nan, math.nan)], "b": [(1.0, 0.25)] * 3}
    assert calibration.share_within(cases["a"], 1) == pytest.approx(1 / 3)
    assert calibration.share_within(cases["a"], 2) == pytest.approx(2 / 3)
    assert calibration.share_by_the_others(cases, "a") == pytest.approx(2 / 3)
    assert calibration.pooled(cases) == {calibration.ALL_LOOPS: cases["a"] + cases["b"]}


def test_occlusion_is_scored_by_precision_and_recall() -> None:
    true, found = np.zeros((2, 10, 10), bool)
    true[:4], found[2:6] = True, True
    assert scenes.f1(found, true) == 0.5
    assert math.isnan(scenes.f1(found, np.zeros_like(true)))


def test_measurements_come_back_from_their_file(tmp_path: Path) -> None:
    rows = [
        Measurement("planted", "4", "photograph 1", "ours", "corner_error_px", value) for value in (0.125, math.nan)
    ]
    measurement.write(tmp_path / "all.csv", rows)
    first, second = measurement.read(tmp_path / "all.csv")
    assert first == rows[0]
    assert math.isnan(second.value)
    assert measurement.read(tmp_path / "none.csv") == []


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "alignment.py"), "--quick", *options]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_the_quick_run_measures_every_section_and_writes_its_page(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for folder in ("natural", "focal_stacks/room", "defocus_pairs"):
        (data / folder).mkdir(parents=True)
    for seed in (1, 2):
        photograph(data / "natural" / f"{seed}.png", seed)
    large = cv2.imread(str(data / "natural" / "1.png"))
    for number, (left, name) in enumerate([(0, "a"), (2, "b"), (5, "c")]):
        cv2.imwrite(
            str(data / "focal_stacks" / "room" / f"{name}.png"), large[number : number + 300, left : left + 400]
        )
    for name in ("blur", "sharp"):
        cv2.imwrite(str(data / "defocus_pairs" / f"dpdd_00_{name}.png"), large)
    done = run("--data", str(data), "--out", str(out))
    rows = measurement.read(out / "alignment.csv")
    ours, nothing = (values(rows, "corner_error_px", section="planted", method=name) for name in ("ours", "nothing"))
    assert len(ours) == 4
    assert all(mine < 0.3 < none for mine, none in zip(ours, nothing, strict=True))
    assert max(values(rows, "loop_px", method="ours")) < 0.2
    refused = honesty.pairs_of(rows, ("different scenes", "black", "no texture"))
    assert honesty.refused_fraction(refused) == 1.0
    assert min(values(rows, "peak_mb")) > 50
    page = (out / "alignment.md").read_text(encoding="utf-8")
    for name in ("ECC pyramid", "SIFT + MAGSAC++", "DIS flow + MAGSAC++", "ECC as in focus-stack", "phase correlation"):
        assert f"| {name} |" in page
        assert name in done.stdout
    assert len(values(rows, "corner_error_px", section="calibration")) == 5
    for picture in ("planted", "loops", "honesty", "calibration"):
        assert f"](alignment-{picture}.png)" in page
        assert cv2.imread(str(out / f"alignment-{picture}.png")).shape[1] > 700
    assert str(tmp_path) not in page


def test_a_section_run_alone_leaves_the_numbers_of_the_others(tmp_path: Path) -> None:
    stack, out = tmp_path / "focal_stacks" / "ring", tmp_path / "out"
    stack.mkdir(parents=True)
    out.mkdir()
    for number in range(3):
        photograph(stack / f"{number}.png", 1, (240, 320))
    other = Measurement("virtual", "focus", "scene 1", "ours", "corner_error_px", 0.125)
    unmeasured = Measurement("planted", "4", "photograph 1", "ours", "corner_error_px", 0.375)
    old = Measurement("loops", "pcb", "by frame 2", "ours", "loop_px", 0.25)
    measurement.write(out / "alignment.csv", [unmeasured, other, old])
    done = run("--only", "loops", "planted", "--data", str(tmp_path), "--out", str(out))
    assert "planted: left out, no photographs found" in done.stderr
    rows = measurement.read(out / "alignment.csv")
    assert {unmeasured, other} <= set(rows)
    assert old not in rows
    assert values(rows, "loop_px", group="ring", method="ours")[0] < 0.05
    assert "0.125 (0.125)" in (out / "alignment.md").read_text(encoding="utf-8")
