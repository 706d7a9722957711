"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import SHARED


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
