"""The paths of a data set, from flags and configuration, and shards in a store."""

from __future__ import annotations

from pathlib import Path

from sdd_toolkit.pipeline.dataset_folder import BuildConfig, resolve_paths
from sdd_toolkit.storage.locations import Remote
from tests.support.command_line import sdd_in_process
from tests.support.small_dataset import contents

SMALL = """
[simulate]
width = 640
height = 448
[pack]
patch_size = 256
[build]
sources = ["raw"]
out = "set"
shards = "file://{folder}/bucket/set"
"""


def test_shards_lie_in_the_data_set_in_a_folder_or_in_a_store() -> None:
    for location, expected in (
        (None, Path("here/set/shards")),
        ("packed", Path("here/packed")),
        ("/packed", Path("/packed")),
        ("s3://bucket/set", Remote("s3://bucket/set")),
    ):
        values = BuildConfig(sources=("raw",), out="set", shards=location)
        _, dataset = resolve_paths(Path("here/sdd.toml"), (), None, values)
        assert dataset.shards == expected


def test_a_build_brings_its_shards_into_a_store_and_all_else_beside_the_manifests(tmp_path: Path) -> None:
    (tmp_path / "sdd.toml").write_text(SMALL.format(folder=tmp_path))
    simulate = ["--scenes", 2, "--kind", "focus", "--seed", 3, "--config", tmp_path / "sdd.toml"]
    sdd_in_process("capture", "simulate", *simulate, "--out", tmp_path / "raw")
    sdd_in_process("build", tmp_path / "sdd.toml", "--executor", "serial")
    assert {"index.json", "README.md"} <= set(contents(tmp_path / "bucket" / "set"))
    assert not (tmp_path / "set" / "shards").exists()
    assert "Packed" in (tmp_path / "set" / "report" / "report.html").read_text()
