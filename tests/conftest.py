"""Fixtures and marks of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.paths import ROOT, SHARED

MARKS_OF_FOLDERS = {
    "tests/faults": "kill",
    "tests/fuzz": "fuzz",
    "tests/benchmarks": "slow",
    "tests/end_to_end": "slow",
    "tests/jdrl/training": "training",
}

# Two workers of pytest share two cores: threads of PyTorch or OpenBLAS beside each other spin more than they compute.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks whole folders, which `make test-fast` leaves out."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        for folder, mark in MARKS_OF_FOLDERS.items():
            if path.startswith(folder + "/"):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs and RAW files, which are not ours to ship."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real photographs are not part of the project: no ../shared/data here")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder with outputs of reference networks."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("reference network outputs are not part of the project: no ../shared/golden here")
    return folder
