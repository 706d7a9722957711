"""`sdd export --layout patches`: the patch layout by the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.shards.patch_reader import PatchReader
from sdd_toolkit.shards.reader import ShardReader
from tests.support.command_line import sdd_in_process
from tests.support.small_dataset import filtered_manifest


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    pack(filtered_manifest(tmp_path / "set"), tmp_path / "shards", PackConfig(patch_size=128, min_size_px=64))
    return tmp_path / "shards"


def test_the_command_writes_the_patches_of_one_split_in_the_profile_asked_for(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "patches"
    sdd_in_process("export", shards, "--layout", "patches", "--split", "train", "--profile", "portable", "--out", out)
    with PatchReader(out) as reader, ShardReader(shards, "train") as source:
        assert reader.index.codec == "gzip"
        assert reader.patches == source.patches
    assert not list(out.glob(".sdd.lock*"))


@pytest.mark.parametrize("options", [("--layout", "patches", "--patches"), ("--layout", "png", "--profile", "raw")])
def test_options_that_do_not_go_together_are_refused(shards: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    done = sdd_in_process("export", shards, *options, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2
    assert "takes no --p" in done.stderr
