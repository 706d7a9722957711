"""Every benchmark still runs, in its smallest configuration, and prints the rows its page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("alignment", "build", "camera", "develop", "ingest", "pairing", "reading", "reblur")
NUMBER = r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])"


def table(script: str, *options: str) -> dict[str, list[list[float]]]:
    """The numbers of every printed row by its name, in the order of printing."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *options]
    told = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    rows: dict[str, list[list[float]]] = {}
    for line in told.stdout.splitlines():
        rows.setdefault(line[:24].strip(), []).append([float(found) for found in re.findall(NUMBER, line[24:])])
    return rows


def test_every_stage_of_a_build_has_its_price_beside_that_of_libraw() -> None:
    rows = table("build", "--pairs", "1", "--sizes", "648x432", "--workers", "1")
    stages = ("ingest", "hotpixels", "align", "filter", "pack", "verify", "card", "report")
    for name in (*stages, "all stages", "LibRaw, unpacking", "LibRaw, developing", "laboratory's pipeline"):
        (row,) = rows[name]
        seconds, _, peak_mb = row
        assert seconds > 0
        assert peak_mb > 20
    assert rows["all stages"][0][0] == pytest.approx(sum(rows[name][0][0] for name in stages), abs=0.01)
    assert rows["build / developing"][0][0] > 1
    assert rows["laboratory / build"][0][0] > 0
    assert rows["corners, ours"][0][0] < 1
    assert "corners, laboratory" in rows
    assert "1 of 1 pairs kept and pa" in rows


def test_the_first_and_the_second_ingest_have_their_seconds_and_memory() -> None:
    rows = table("ingest", "--files", "8", "--sizes", "120x80", "--workers", "1", "--repeats", "1")
    for name in ("first run", "nothing changed", "one file touched"):
        (row,) = rows[name]
        seconds, _, per_second, _, _ = row
        assert per_second == pytest.approx(8 / seconds, rel=0.1, abs=1.0)


def test_pairs_without_exif_are_judged_against_the_truth() -> None:
    rows = table("pairing", "--scenes", "3", "--sizes", "240x160", "--workers", "1")
    for name in ("focus 240x160 dng", "focus 240x160 jpg", "aperture 240x160 dng", "aperture 240x160 jpg"):
        (row,) = rows[name]
        findable, right, swapped, false = row[:4]
        assert (findable, right, swapped, false) == (8, 8, 0, 0)


def test_every_way_to_keep_pairs_gives_equal_pixels_and_its_own_speed() -> None:
    rows = table("reading", "--pairs", "1", "--size", "320x256", "--reads", "3", "--window", "128")
    shards = ("shard, bitshuffle-lz4", "images only", "shard, gzip", "shard, uncompressed")
    for name in (*shards, "PNG files", "numpy memmap"):
        (row,) = rows[name]
        assert len(row) == 3
        assert row[0] > 0


def test_every_way_to_develop_has_its_seconds_and_bytes(tmp_path: Path) -> None:
    rows = table("develop", str(tmp_path), "--megapixels", "0.2")
    for name in ("ahd", "dht", "half"):
        (row,) = [key for key in rows if key.startswith(f"| {name} |")]
        seconds, bytes_a_pixel = (float(cell) for cell in row.split("|")[2:4])
        assert 0 <= seconds < 60
        assert 0 < bytes_a_pixel < 200


def test_a_virtual_pair_has_its_price_at_every_size() -> None:
    rows = table("camera", "--pairs", "1", "--sizes", "128x96", "--workers", "1")
    for name in ("128x96 focus", "128x96 focus alone", "128x96 aperture", "128x96 aperture alone"):
        (row,) = rows[name]
        assert len(row) == 3
        assert min(row) > 0.1


def test_both_reblurring_operators_are_timed_and_ours_keeps_less() -> None:
    rows = table("reblur", "--size", "32", "--repeats", "1")
    assert rows["hats, ours"][0][-1] < 0.1 * rows["dense, official form"][0][-1]


def test_make_bench_runs_every_benchmark() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"python benchmarks/(\w+)\.py", recipe)
    assert sorted(commands) == list(SCRIPTS)
    pages = sorted(path.stem for path in (ROOT / "docs" / "benchmarks").glob("*.md"))
    assert pages == sorted(["README", *SCRIPTS])
