"""The tiny set every fault is tried on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import builds
from tests.support.command_line import sdd


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny virtual pairs in `raw`, their `sdd.toml`, and what an undisturbed build makes of them in `whole`."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "sdd.toml").write_text(builds.TINY)
    simulate = ["--scenes", 3, "--kind", "focus", "--seed", 3, "--config", folder / "sdd.toml"]
    sdd("capture", "simulate", *simulate, "--out", folder / "raw")
    assert builds.in_child(builds.build_watched, folder, folder / "whole", None) == 0
    return folder


@pytest.fixture
def out(tiny: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder beside the undisturbed build: manifests name their sources relative to themselves."""
    folder = tiny / "".join(char if char.isalnum() else "-" for char in request.node.name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def whole_s(tiny: Path) -> float:
    """How long an undisturbed build takes now."""
    started = time.monotonic()
    assert builds.in_child(builds.build, tiny, tiny / "timed") == 0
    return time.monotonic() - started
