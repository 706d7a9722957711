"""A build killed at any moment ends, when run again, in the same bytes as one that was never disturbed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.support.command_line import kill_runs, sdd, sdd_in_process
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


@pytest.fixture(scope="module")
def whole_s(small: Path) -> float:
    """The duration of an undisturbed build in a process of its own."""
    started = time.monotonic()
    sdd("build", small / "sdd.toml", "--out", small / "timed")
    return time.monotonic() - started


@pytest.mark.parametrize("seed", range(3))
def test_a_build_killed_at_any_moment_resumes_to_the_same_bytes(small: Path, whole_s: float, seed: int) -> None:
    """SIGKILL to the whole process group, several times over, then one run to the end."""
    out = small / f"killed-{seed}"
    kill_runs(["build", small / "sdd.toml", "--out", out], whole_s, seed)
    sdd_in_process("build", small / "sdd.toml", "--out", out)
    assert content(out) == content(small / "whole")


def test_a_build_that_keeps_no_pair_leaves_a_report_and_no_shards_of_an_earlier_build(small: Path) -> None:
    out = small / "strict"
    shutil.copytree(small / "whole", out)
    (small / "strict.toml").write_text(SMALL.format(pairs_per_shard=2, min_level=0.999))
    done = sdd_in_process("build", small / "strict.toml", "--out", out, check=False)
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert done.returncode == 2
    assert error.endswith("filtered.jsonl keeps none of its 5 pairs (5 black_frame)")
    assert hint.endswith(f"see {out / 'report' / 'report.html'}")
    assert (out / "report" / "pairs.csv").read_text().count("black_frame") == 5
    assert list((out / "shards").iterdir()) == []
