"""A full disk: the file being written is named, nothing crashes, and with space the build ends in the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import builds
from tests.faults.points import disk_full
from tests.support.command_line import sdd

TMPFS_KIB = (16, 28, 36, 44, 52, 64, 80, 96, 128, 160, 200, 260, 320, 380)
"""Sizes of a small disk; together they fill it in every stage that writes more than a few bytes."""
SHARD_PATCHES = 3000
CHAINS = 2
STAGES = (
    *("config", "ingest", "hot_pixels", "flow/", "aligned", "filtered", "shards/train", "shards/test", "index.json"),
    *("README.md", "pairs.csv", "report.html"),
)


def error_of(out: Path) -> str:
    return out.with_name(out.name + ".error").read_text()


def test_a_disk_full_at_any_kind_of_write_is_named_and_the_build_resumes(tiny: Path, out: Path) -> None:
    """Each operation on each file in turn fails because the disk is full, and everything after it."""
    names = dict.fromkeys((tiny / "whole.points").read_text().splitlines())
    left = [name for name in names if name.split()[0] in ("open", "write", "os.mkdir", "flush", "truncate")]
    met: list[str] = []
    # A resumed build skips some operations; they are left to the next build from the start.
    for _ in range(CHAINS):
        for name in left:
            code = builds.in_child(builds.build_watched, tiny, out, name, disk_full, True)
            assert code in (0, 2), f"{name}: {error_of(out)}"
            assert builds.visible_faults(out) == []
            if code == 2:
                met.append(name)
                what, hint = error_of(out).splitlines()
                assert what.startswith("no space left while writing "), name
                assert hint.startswith("free some space and run the same again")
        assert builds.in_child(builds.build, tiny, out) == 0
        assert builds.content(out) == builds.content(tiny / "whole")
        shutil.rmtree(out)
        left = [name for name in left if name not in met]
    assert all(any(stage in name for name in met) for stage in STAGES)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    options = f"size={kib}k,mode=777"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_build_on_too_small_a_disk_stops_and_ends_in_the_same_bytes_on_a_larger_one(tiny: Path, out: Path) -> None:
    codes = []
    with small_disk(out, TMPFS_KIB[0]):
        for kib in TMPFS_KIB:
            subprocess.run(["mount", "-o", f"remount,size={kib}k", str(out)], check=True)
            codes.append(builds.in_child(builds.build, tiny, out))
            assert builds.visible_faults(out) == []
            assert codes[-1] in (0, 2), error_of(out)
            if codes[-1] == 2:
                assert error_of(out).startswith("no space left while writing ")
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        assert builds.in_child(builds.build, tiny, out) == 0
        assert builds.content(out) == builds.content(tiny / "whole")
    assert codes.count(2) >= len(TMPFS_KIB) - 4


def test_a_disk_full_at_any_write_of_a_shard_does_not_end_the_process(tiny: Path, tmp_path: Path) -> None:
    """HDF5 aborts the process where it cannot write; each write fails in turn, and all later ones."""
    shutil.copy(tiny / "whole" / "aligned.jsonl", tmp_path)
    assert builds.in_child(builds.write_shard_watched, tmp_path, None, SHARD_PATCHES) == 0
    points = (tmp_path / "shard.points").read_text().splitlines()
    fails = [number for number, name in enumerate(points) if name.split()[0] in ("open", "write", "truncate")]
    assert len(fails) > 40
    codes = {number: builds.in_child(builds.write_shard_watched, tmp_path, number, SHARD_PATCHES) for number in fails}
    assert {number: code for number, code in codes.items() if code != 2} == {}
    assert sorted(path.name for path in (tmp_path / "shard").iterdir()) == ["one.h5"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_virtual_camera_reports_a_full_disk_and_resumes_with_space(tiny: Path, tmp_path: Path) -> None:
    words = ("capture", "simulate", "--scenes", 3, "--kind", "focus", "--seed", 3, "--config", tiny / "sdd.toml")
    with small_disk(tmp_path / "disk", 300):
        done = sdd(*words, "--executor", "serial", "--out", tmp_path / "disk" / "raw", check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-2].startswith("error: no space left while writing ")
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "disk")], check=True)
        sdd(*words, "--executor", "serial", "--out", tmp_path / "disk" / "raw")
        assert builds.content(tmp_path / "disk" / "raw") == builds.content(tiny / "raw")
