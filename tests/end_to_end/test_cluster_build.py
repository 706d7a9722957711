"""A build on a cluster of real processes, one of them killed half-way, makes the bytes of a build on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster_nodes import Nodes, nodes
from tests.support.paths import ROOT
from tests.support.small_build import content, small_build

pytest.importorskip("distributed", reason="the cluster extra is not installed")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small virtual pairs, their configuration, and the data set that this machine builds of them."""
    return small_build(tmp_path_factory.mktemp("cluster-build"), scenes=6, pairs_per_shard=1)


def started(small: Path, out: str, running: Nodes) -> subprocess.Popen[bytes]:
    """`sdd build` with relative paths: the workers have other current folders."""
    command = [sys.executable, "-m", "cli", "build", "sdd.toml", "--out", out, "--executor", running.name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=small, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(tmp_path_factory.mktemp("nodes")) as running:
        yield running


@pytest.mark.parametrize("progress", ["cluster/aligned.jsonl.journal", "cluster/shards/*.h5.json"])
def test_a_worker_killed_half_way_costs_nothing(small: Path, running: Nodes, progress: str) -> None:
    for path in small.glob("cluster/shards/*"):
        path.unlink()
    build = started(small, "cluster", running)
    while build.poll() is None and not any(path.stat().st_size > 9 for path in small.glob(progress)):
        time.sleep(0.02)
    assert build.poll() is None, "the build was over before the worker could be killed"
    running.kill(next(worker for worker in running.workers if worker.poll() is None))
    running.add_worker("--nthreads", "2")
    _, errors = build.communicate(timeout=300)
    assert build.returncode == 0, errors.decode()
    assert content(small / "cluster") == content(small / "whole")
