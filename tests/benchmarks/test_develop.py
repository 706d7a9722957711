"""Our sRGB of 16 bits beside that of LibRaw, on real RAW files and on planted mosaics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.develop import difference, differences
from sdd_toolkit.raw.development import Demosaic
from tests.support.dng_files import GRBG, scene_rgb, write_dng


def test_our_srgb16_is_that_of_libraw_on_every_real_raw_file(real_data: Path) -> None:
    rows = list(differences(real_data / "raw", mean_only=True))
    assert len({row.name for row in rows}) == 9
    assert [row for row in rows if row.mean >= 0.1] == []  # percent; 0.5 is asked for


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("demosaic", [Demosaic.AHD, Demosaic.DHT])
def test_our_srgb16_is_that_of_libraw_on_a_planted_mosaic(tmp_path: Path, demosaic: Demosaic, orientation: int) -> None:
    light = scene_rgb(120, 160) + np.random.default_rng(0).normal(0, 0.02, (120, 160, 3))
    path = write_dng(tmp_path / "a.dng", np.clip(light, 0, 1), GRBG, orientation=orientation)
    assert difference(path, demosaic, mean_only=True).mean < 0.05
