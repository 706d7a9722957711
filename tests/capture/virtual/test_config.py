from __future__ import annotations

from pathlib import Path

import pytest

from capture.virtual.config import SimulateConfig
from sdd_toolkit.config import load_section
from sdd_toolkit.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("width = 1297", "multiple of 2"),
        ("f_number_min = 32.0", "f_number_min"),
        ("white_level = 20000", "16383"),
        ("near_m = 1.0", "together"),
        ("near_m = 3.0\nfar_m = 2.0", "nearer"),
        ("focus_min_m = 0.1", "four focal lengths"),
        ("max_cok_px = 3", "unknown key"),
    ],
)
def test_values_that_make_no_camera_are_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "sdd.toml").write_text(f"[simulate]\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        load_section(SimulateConfig, "simulate", tmp_path / "sdd.toml")
