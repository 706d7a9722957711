"""Targets that cannot be written: read-only, without rights, a file in the way, a parent that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.faults import builds
from tests.support.command_line import sdd


def two_lines(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    return lines[0], lines[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system read-only takes root")
def test_a_read_only_disk_is_named_and_what_is_there_can_still_be_verified(tiny: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    shutil.copytree(tiny / "whole", mounted)
    if subprocess.run(["mount", "--bind", str(mounted), str(mounted)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True)
        for words in (
            ("build", tiny / "sdd.toml", "--out", mounted),
            ("pack", tiny / "whole/filtered.jsonl", "--out", mounted / "shards"),
            ("report", mounted, "--out", mounted / "report"),
            ("card", mounted / "shards"),
            ("ingest", tiny / "raw", "--out", mounted / "new"),
        ):
            error, hint = two_lines(sdd(*words, check=False))
            assert error.startswith(f"error: cannot write {mounted}")
            assert "Read-only file system" in error
            assert hint == "hint: check the folder and its rights"
        assert "3 done" in sdd("verify", mounted / "shards").stdout
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root's rights away, which takes root")
def test_a_folder_without_rights_is_named() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        assert builds.in_child(builds.write_unprivileged, Path(name)) == 2
        assert list(Path(name).iterdir()) == []
        Path(name).chmod(0o777)
        assert builds.in_child(builds.write_unprivileged, Path(name)) == 0
        assert [path.name for path in Path(name).iterdir()] == ["file"]


def test_a_file_in_the_way_of_the_folder_is_named(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    error, _ = two_lines(sdd("build", tiny / "sdd.toml", "--out", tmp_path / "file", check=False))
    assert error.startswith(f"error: cannot write {tmp_path / 'file'}")
    error, _ = two_lines(sdd("build", tiny / "sdd.toml", "--out", tmp_path / "file" / "set", check=False))
    assert error.startswith(f"error: cannot write {tmp_path / 'file'}")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_parent_that_is_missing_is_made(tiny: Path, out: Path) -> None:
    assert builds.in_child(builds.build, tiny, out / "a" / "b") == 0
    assert (out / "a" / "b" / "shards" / "index.json").is_file()
