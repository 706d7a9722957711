"""Sources that change, vanish or turn into something else after ingest, and clocks that go backwards."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from sdd_toolkit.pipeline import manifest
from tests.faults import builds

BLUR = "scene-0002/blur.dng"


@pytest.fixture
def own(tiny: Path, out: Path) -> Path:
    """A copy of the set with sources of its own, built."""
    out.mkdir()
    shutil.copytree(tiny / "raw", out / "raw")
    shutil.copy(tiny / "sdd.toml", out / "sdd.toml")
    assert builds.in_child(builds.build, out, out / "set") == 0
    return out


def stale_stages(own: Path) -> int | None:
    """Aligns and packs again by the manifest as it is, without ingesting first: what a user's cluster job does."""
    return builds.in_child(builds.realign, own)


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_outside(path: Path) -> None:
    shutil.copy(path, "/var/tmp/sdd-outside.dng")
    path.unlink()
    path.symlink_to("/var/tmp/sdd-outside.dng")


@pytest.mark.parametrize(
    ("do", "word"),
    [
        (change, "another SHA-256"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "ingested were"),
        (Path.unlink, "is missing"),
        (fifo, "is missing"),
        (folder, "is missing"),
    ],
    ids=["changed", "cut", "deleted", "fifo", "folder"],
)
def test_a_source_changed_since_ingest_costs_its_pair_with_the_reason_changed(own: Path, do: object, word: str) -> None:
    keep = (own / "raw" / BLUR).read_bytes()
    assert callable(do)
    do(own / "raw" / BLUR)
    assert stale_stages(own) == 0
    verdicts = {record.id: record.verdict for record in manifest.read_manifest(own / "set" / "aligned.jsonl").records}
    changed = [verdict for verdict in verdicts.values() if verdict is not None and verdict.reason == "changed"]
    assert len(verdicts) == 3
    assert [word in verdict.detail for verdict in changed] == [True]
    # Once it is back, everything is as before.
    path = own / "raw" / BLUR
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(keep)
    assert builds.in_child(builds.build, own, own / "set") == 0
    assert builds.in_child(builds.build, own, own / "fresh") == 0
    assert_same(own)


def assert_same(own: Path) -> None:
    """Equal but for what ingest remembers of the files' times."""
    one, other = (builds.content(own / name) for name in ("set", "fresh"))
    assert {name: digest for name, digest in one.items() if name != ".ingest-run.json"} == {
        name: digest for name, digest in other.items() if name != ".ingest-run.json"
    }


def test_a_source_that_becomes_a_link_out_of_the_root_is_refused(own: Path) -> None:
    try:
        link_outside(own / "raw" / BLUR)
        assert stale_stages(own) == 2
        assert "leaves its root" in (own / "set.error").read_text()
    finally:
        Path("/var/tmp/sdd-outside.dng").unlink(missing_ok=True)


def test_a_changed_source_is_found_even_if_size_and_time_are_as_before(own: Path) -> None:
    path = own / "raw" / BLUR
    state = path.stat()
    change(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert stale_stages(own) == 0
    reasons = [
        record.verdict and record.verdict.reason for record in manifest.read_manifest(own / "set/aligned.jsonl").records
    ]
    assert reasons.count("changed") == 1


@pytest.mark.parametrize("hours", [-24 * 365 * 30, 24 * 365 * 10])
def test_clocks_that_were_set_make_no_difference(own: Path, hours: int) -> None:
    """All files of the set and the sources carry times of another day; nothing is lost and nothing believed wrongly."""
    stamp = max(0, time.time_ns() + hours * 3600 * 10**9)
    for path in own.rglob("*"):
        os.utime(path, ns=(stamp, stamp))
    assert builds.in_child(builds.build, own, own / "set") == 0
    assert builds.in_child(builds.build, own, own / "fresh") == 0
    assert_same(own)
    line = json.loads((own / "set" / ".ingest-files.jsonl").read_text().splitlines()[0])
    assert line["modified_ns"] == stamp
