"""A build killed at any moment ends, when run again, in the same bytes as one that was never disturbed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command_line import sdd_in_process
from tests.support.paths import ROOT
from tests.support.small_build import SMALL, content, small_build


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small virtual pairs and their configuration."""
    return small_build(tmp_path_factory.mktemp("kill"), scenes=5, pairs_per_shard=2)


def test_a_build_makes_shards_a_card_and_a_report_and_a_second_run_changes_nothing(small: Path) -> None:
    before = content(small / "whole")
    sdd_in_process("build", small / "sdd.toml", "--out", small / "whole")
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
    sdd_in_process("build", small / "sdd.toml", "--out", out)
    assert content(out) == content(small / "whole")


def test_a_build_that_keeps_no_pair_leaves_a_report_and_no_shards_of_an_earlier_build(small: Path) -> None:
    out = small / "strict"
    shutil.copytree(small / "whole", out)
    (small / "strict.toml").write_text(SMALL.format(pairs_per_shard=2) + "[filter]\nmin_level = 0.999\n")
    done = sdd_in_process("build", small / "strict.toml", "--out", out, check=False)
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert done.returncode == 2
    assert error.endswith("filtered.jsonl keeps none of its 5 pairs (5 black_frame)")
    assert hint.endswith(f"see {out / 'report' / 'report.html'}")
    assert (out / "report" / "pairs.csv").read_text().count("black_frame") == 5
    assert list((out / "shards").iterdir()) == []
