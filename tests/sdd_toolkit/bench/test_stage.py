"""The whole benchmark at its smallest: every command of the toolkit that it needs, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.bench.plan import PROFILES, Plan
from sdd_toolkit.bench.scoring import read_rows
from sdd_toolkit.bench.stage import run_vsdd
from sdd_toolkit.formats.decoding import read_image
from tests.support.command_line import sdd_in_process

SMOKE = PROFILES["smoke"]
PLAN = Plan(replace(SMOKE, tasks=tuple(task for task in SMOKE.tasks if task.arm.name != "jdrl")))


def execute(folder: Path, words: Sequence[str], log: Path) -> int:
    """Runs a command here; paths are relative to the folder of the benchmark."""
    known = [str(folder / word) if (folder / word).exists() or word.startswith(("data/", "runs/", "scores/")) else word
             for word in words]  # fmt: skip
    done = sdd_in_process(*known, check=False)
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    return done.returncode


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("vsdd")
    lines: list[str] = []
    run_vsdd(out, PLAN, workers=1, say=lines.append, execute=execute)
    return out, lines


def test_a_run_measures_displacement_and_scores_every_arm(finished: tuple[Path, list[str]]) -> None:
    out, lines = finished
    assert any("displaced-08: measured 8.0" in line for line in lines)
    assert lines[-1].endswith("nothing left")
    rows = read_rows([out / "vsdd.csv"])
    assert {(row.arm, row.scene) for row in rows} == {
        (arm, scene)
        for arm in ("input", "oracle", "naive", "prealigned")
        for scene in ("focus-scene-0003", "aperture-scene-0003")
    }
    assert all(10 < row.psnr_db < 60 for row in rows)
    assert "| naive: pixel loss on pairs as shot |" in (out / "vsdd.md").read_text(encoding="utf-8")
    assert (out / "vsdd.png").stat().st_size > 5000
    assert (out / "vsdd-strip.png").is_file()


def test_the_arms_see_what_their_names_say(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    pictures = out / "data/displaced-08/pictures"
    truth, shot = (pictures / data / "train" for data in ("truth", "shot"))
    for name in ("focus-scene-0001.png", "aperture-scene-0001.png"):
        assert np.array_equal(read_image(truth / "blur" / name), read_image(shot / "blur" / name))
        frames = [read_image(folder / "gt" / name).astype(np.float64) for folder in (truth, shot)]
        # Only geometry differs: the same light, elsewhere.
        assert abs(frames[0].mean() - frames[1].mean()) < 6
        assert np.abs(frames[0] - frames[1]).mean() > 5
    assert not (pictures / "shot/test").exists()


def test_a_second_run_repeats_nothing(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    before = (out / "vsdd.csv").read_bytes()

    def refuse(folder: Path, words: Sequence[str], log: Path) -> int:
        raise AssertionError(f"repeated {words}")

    run_vsdd(out, PLAN, workers=2, execute=refuse)
    assert (out / "vsdd.csv").read_bytes() == before
