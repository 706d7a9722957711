"""The intact files that fuzzing damages."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.faults import builds
from tests.support.dng_files import write_dng


@pytest.fixture(scope="session")
def intact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The folder of a data set of three tiny pairs, and a DNG of 48 x 64."""
    small = small_dng(tmp_path_factory.mktemp("intact") / "small.dng")
    return builds.tiny_set(tmp_path_factory.getbasetemp()) / "whole", small.read_bytes()


def small_dng(path: Path) -> Path:
    """Writes a DNG of 48 x 64 with EXIF."""
    light = np.random.default_rng(1).random((48, 64, 3)).astype(np.float32)
    exif: dict[str, object] = {"f_number": 2.8, "shutter_s": 0.01, "iso": 100, "taken_at": "2024:05:01 10:00:00"}
    return write_dng(path, light, exif=exif)


assert sys.platform != "win32", "the limits on memory and time are those of POSIX"
