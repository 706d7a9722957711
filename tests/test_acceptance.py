"""The walk on virtual RAW pairs with planted truth: is what comes out what went in?"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.geometry import corner_error_px
from sdd_toolkit.manifest import read

ROOT = Path(__file__).resolve().parent.parent
DEFECTS = {"black_frame", "different_scene", "moving_object", "clipped", "both_blurred"}


def sdd(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 focus pairs and one pair for each planted defect, aligned and filtered."""
    folder = tmp_path_factory.mktemp("acceptance")
    sdd("capture", "simulate", "--scenes", 12, "--kind", "focus", "--defects", "--seed", 11, "--out", folder / "raw")
    sdd("ingest", folder / "raw", "--out", folder, "--pairing", "focus")
    sdd("align", folder / "ingested.jsonl", "--out", folder)
    sdd("filter", folder / "aligned.jsonl", "--out", folder)
    return folder


def truth_of(folder: Path, scene: str) -> dict[str, np.ndarray]:
    with np.load(folder / "raw" / scene / "truth.npz") as truth:
        return dict(truth)


def defect_of(truth: dict[str, np.ndarray]) -> str:
    return str(truth["defect"]) if "defect" in truth else ""


def test_the_homography_of_virtual_focus_pairs_is_found_to_a_fraction_of_a_pixel(dataset: Path) -> None:
    errors_px = []
    for record in read(dataset / "filtered.jsonl").records:
        truth = truth_of(dataset, record.scene)
        if not defect_of(truth):
            assert record.alignment is not None
            errors_px.append(corner_error_px(record.alignment.homography, truth["homography"], record.alignment.size))
    assert len(errors_px) == 12
    assert float(np.median(errors_px)) < 0.3
    assert max(errors_px) < 1.0


def test_every_planted_defect_is_rejected_for_its_own_reason_and_no_good_pair(dataset: Path) -> None:
    found = {}
    for record in read(dataset / "filtered.jsonl").records:
        defect = defect_of(truth_of(dataset, record.scene))
        assert record.verdict is not None
        if defect:
            found[defect] = record.verdict.reason
        else:
            assert record.verdict.keep, f"{record.id}: {record.verdict}"
    assert found == {defect: defect for defect in DEFECTS}


SMALL = """
[simulate]
width = 640
height = 448
[pack]
pairs_per_shard = 2
patch_size = 256
[build]
sources = ["raw"]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small virtual pairs and their configuration."""
    folder = tmp_path_factory.mktemp("kill")
    (folder / "sdd.toml").write_text(SMALL)
    simulate = ["--scenes", 5, "--kind", "focus", "--seed", 3, "--config", folder / "sdd.toml"]
    sdd("capture", "simulate", *simulate, "--out", folder / "raw")
    sdd("build", folder / "sdd.toml", "--out", folder / "whole")
    return folder


def content(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_build_makes_shards_a_card_and_a_report_and_a_second_run_changes_nothing(small: Path) -> None:
    before = content(small / "whole")
    sdd("build", small / "sdd.toml", "--out", small / "whole")
    assert content(small / "whole") == before
    assert {"shards/index.json", "shards/README.md", "report/report.html", "filtered.jsonl"} <= set(before)
    assert json.loads((small / "whole/shards/index.json").read_text())["format"] == "sdd-shards"


@pytest.mark.parametrize("seed", range(4))
def test_a_build_killed_at_any_moment_resumes_to_the_same_bytes(small: Path, seed: int) -> None:
    """SIGKILL to the whole process group, several times over, then one run to the end."""
    draw, out = random.Random(seed), small / f"killed-{seed}"
    command = [sys.executable, "-m", "cli", "build", str(small / "sdd.toml"), "--out", str(out)]
    for _ in range(3):
        build = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(draw.uniform(0.5, 7.0))
        os.killpg(build.pid, signal.SIGKILL)
        build.wait()
    sdd("build", small / "sdd.toml", "--out", out)
    assert content(out) == content(small / "whole")
