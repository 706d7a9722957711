"""A small virtual set and the data set that `sdd build` makes of it, for tests that compare whole folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.command_line import sdd_in_process

SMALL = """
[simulate]
width = 320
height = 256
max_coc_px = 3.0
min_coc_px = 1.0
[align]
min_textured_tiles = 4
[filter]
min_level = {min_level}
min_texture_fraction = 0
min_sharp_acuity = 0
min_sharpness_gain = 0
min_sharper_fraction = 0
max_softer_fraction = 1
max_unexplained_fraction = 1
max_residual_px = 9
max_residual_p95_px = 99
max_error_px = 99
[pack]
pairs_per_shard = {pairs_per_shard}
patch_size = 64
min_size_px = 64
[report]
title = "Small"
[build]
sources = ["raw"]
"""


def small_build(folder: Path, scenes: int, pairs_per_shard: int) -> Path:
    """`folder` with `sdd.toml`, the pairs in `raw` and their data set in `whole`."""
    (folder / "sdd.toml").write_text(SMALL.format(pairs_per_shard=pairs_per_shard, min_level=0.0))
    simulate = ["--scenes", scenes, "--kind", "focus", "--seed", 3, "--config", folder / "sdd.toml"]
    sdd_in_process("capture", "simulate", *simulate, "--out", folder / "raw")
    sdd_in_process("build", folder / "sdd.toml", "--out", folder / "whole")
    return folder


def content(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
