"""The tiny data set that every fault is tried on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import builds


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `builds.tiny_set`."""
    return builds.tiny_set(tmp_path_factory.getbasetemp())


@pytest.fixture
def out(tiny: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder beside the undisturbed build: manifests name their sources relative to themselves."""
    folder = tiny / "".join(char if char.isalnum() else "-" for char in request.node.name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def whole_s(tiny: Path) -> float:
    """Time of a build without a fault, in seconds."""
    started = time.monotonic()
    assert builds.in_child(builds.build, tiny, tiny / "timed") == 0
    return time.monotonic() - started
