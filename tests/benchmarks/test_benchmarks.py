"""Every benchmark still runs, in its smallest configuration, and prints the rows its page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPTS = (
    "alignment",
    "blur_map",
    "build",
    "camera",
    "codecs",
    "default_model",
    "develop",
    "drift",
    "flow",
    "gpu",
    "infer",
    "ingest",
    "interop",
    "jdrl",
    "pairing",
    "precision",
    "reading",
    "repack",
    "scale",
)
NUMBER = r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])"


def table(script: str, *options: str) -> dict[str, list[list[float]]]:
    """The numbers of every printed row by its name, in the order of printing."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *options]
    # Two threads of torch beside another test take many times as long as one.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows: dict[str, list[list[float]]] = {}
    for line in done.stdout.splitlines():
        rows.setdefault(line[:24].strip(), []).append([float(found) for found in re.findall(NUMBER, line[24:])])
    return rows


def test_every_stage_of_a_build_has_its_price_beside_that_of_libraw() -> None:
    rows = table("build", "--pairs", "1", "--sizes", "648x432", "--workers", "1")
    stages = ("ingest", "hotpixels", "align", "filter", "pack", "verify", "card", "report")
    for name in (
        *stages,
        "all stages",
        "the whole command",
        "LibRaw, unpacking",
        "LibRaw, developing",
        "laboratory's pipeline",
    ):
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


def test_the_default_network_restores_and_does_no_harm() -> None:
    rows = table("default_model", "--quiet")
    (restored,) = rows["virtual"]
    before, after, gain, better, count = restored
    assert gain == pytest.approx(after - before, abs=0.02)
    assert gain > 0.3
    assert better == count == 1
    (kept,) = rows["worst sharp to itself"]
    assert kept[0] >= 40


def test_tiles_of_a_network_that_averages_stand_beside_how_they_were() -> None:
    rows = table("infer", "--networks", "nafnet", "--size", "512x64", "--tile", "448", "--window", "64")
    (row,) = rows["nafnet"]
    overlap_px, largest, mean, before = row
    assert overlap_px == 171
    assert 0 <= mean <= largest < 1 < before


def test_the_first_and_the_second_ingest_have_their_seconds_and_memory() -> None:
    rows = table("ingest", "--files", "8", "--sizes", "120x80", "--workers", "1", "--repeats", "1")
    for name in ("first run", "nothing changed", "one file touched"):
        (row,) = rows[name]
        seconds, _, per_second, _, _ = row
        assert per_second == pytest.approx(8 / seconds, rel=0.1, abs=1.0)


def test_ways_in_and_out_stand_beside_opencv_and_tables_have_their_price_a_pair() -> None:
    rows = table("interop", "--pairs", "2", "--size", "200x160", "--table-pairs", "30")
    for name in ("OpenCV, decode", "import", "export, png", "import of export", "iterate"):
        (row,) = rows[name]
        pairs, cpu_s, cpu_ms_a_pair = row
        assert pairs == 2
        assert cpu_ms_a_pair == pytest.approx(500 * cpu_s, abs=5.1)
    for name in ("read_index, patches", "read_index, shards", "read_index, pairs.csv", "card"):
        assert rows[name][0][0] == 30


def test_pairs_without_exif_are_judged_against_the_truth() -> None:
    rows = table("pairing", "--scenes", "3", "--sizes", "240x160", "--workers", "1")
    for name in ("focus 240x160 dng", "focus 240x160 jpg", "aperture 240x160 dng", "aperture 240x160 jpg"):
        (row,) = rows[name]
        findable, right, swapped, false = row[:4]
        assert (findable, right, swapped, false) == (8, 8, 0, 0)


def test_a_precision_asked_for_has_its_price_beside_sift() -> None:
    rows = table("precision", "--sizes", "960x640", "--pairs", "1", "--precisions", "0", "0.1")
    for name in ("960x640, 0 px", "960x640, 0.1 px", "960x640, SIFT"):
        (row,) = rows[name]
        seconds, peak_mb, error_px = row[:3]
        assert seconds > 0
        assert peak_mb > 20
        assert error_px < 1.0


def test_every_way_to_keep_pairs_gives_equal_pixels_and_its_own_speed() -> None:
    options = ("--pairs", "1", "--size", "320x256", "--windows", "4", "--window", "128", "--rounds", "1")
    rows = table("reading", *options, "--photographs", "none", "--workers", "0,1")
    profiles = ("fast", "small", "raw", "portable")
    names = [f"{layout}, {profile}" for layout in ("frames", "patches") for profile in profiles]
    rivals = ("PNG frames", "WebDataset of PNG", "LMDB of PNG", "LMDB of raw pixels")
    for name in (*names, *rivals, "memmap of frames", "memmap of patches"):
        (row,) = rows[name]
        assert len(row) == 5
        assert row[0] > 0
    assert rows["PNG patches"][0][2] == 1.0
    for name in ("PNG patches", *names[:4]):
        (row,) = rows[f"loader, {name}"]
        assert min(row) > 0


def test_every_candidate_for_chunks_gives_them_back_and_has_its_size() -> None:
    options = ("--size", "320x256", "--edge", "64", "--chunks", "3", "--rounds", "1", "--photographs", "none")
    rows = table("codecs", *options)
    for name in ("fast: bits/192 lz4-9", "planes+delta zstd-1", "small: hdf5 htj2k", "portable: hdf5 gzip-4"):
        (row,) = rows[name]
        of_raw, of_png, decoded, encoded = row
        assert 0 < of_raw < 1.1
        assert of_png > 0.5
        assert min(decoded, encoded) > 0


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


def test_reblurring_and_a_step_stand_beside_the_official_formulation_and_keep_less() -> None:
    rows = table("jdrl", "--size", "32", "--crop", "64", "--width", "4", "--repeats", "1")
    kept_mb = {name: rows[name][0][2] for name in ("official, loops", "hats, ours", "discs, ours", "rings, ours")}
    assert kept_mb["official, loops"] > 10 * max(kept_mb["hats, ours"], kept_mb["discs, ours"])
    assert kept_mb["official, loops"] > 5 * kept_mb["rings, ours"]
    for name in ("network alone", "ours, hats", "official, loops"):
        seconds, peak_mb, *_ = rows[name][-1]
        assert seconds > 0
        assert peak_mb > 20


def test_a_reblurring_network_that_never_saw_a_radius_stands_beside_one_radius_for_all() -> None:
    options = ("--pairs", "1", "--size", "128x128", "--steps", "2", "--width", "4", "--bases", "discs")
    rows = table("blur_map", *options)
    for name in ("one radius for all", "discs"):
        median_px, ninth_px, _, _ = rows[name][0]
        assert 0 < median_px < ninth_px < 7


def test_drift_is_found_under_blur_beside_estimates_that_expect_none() -> None:
    rows = table("drift", "--size", "288x192", "--radii", "0,4")
    for name in ("shift 0.00 px", "shift 0.25 px", "shift 6.00 px", "zoom 1 %"):
        (row,) = rows[f"{name}, ours"]
        errors_px, abstained = row[0::2], row[1::2]
        assert max(errors_px) < 0.1
        assert max(abstained) < 0.5
        assert rows[f"{name}, flow"][0][2] > errors_px[1]
        assert len(rows[f"{name}, phase"][0]) == 4


def test_flow_estimators_are_compared_and_the_pyramid_is_as_good_as_dis() -> None:
    rows = table("flow", "--pairs", "1", "--size", "192x128", "--chairs", "none")
    errors = {name: rows[name][0][:4] for name in ("still", "pyramid", "dis")}
    for ours, dis, still in zip(errors["pyramid"], errors["dis"], errors["still"], strict=True):
        assert ours < 1.1 * dis
        assert dis < still
    assert rows["pyramid"][0][-1] < 1000


def test_packing_again_copies_every_pair_and_stands_beside_packing_from_raw_and_cp() -> None:
    rows = table("repack", "--pairs", "3", "--shots", "1", "--size", "648x432", "--repeats", "1")
    copied = {
        "pack, from RAW": [0, 3],
        "pack again, a pair fewer": [2, 2],
        "pack again, another spli": [3, 3],
        "cp and fsync": [],
    }
    for name, expected in copied.items():
        (row,) = rows[name]
        size_mb, _, _, *_ = row
        assert size_mb > 0
        assert row[5:] == expected


def test_the_bookkeeping_of_a_large_data_set_has_its_seconds_and_memory() -> None:
    rows = table("scale", "--pairs", "40", "--files", "8")
    for name in ("load", "judge again", "split", "card", "report", "ingest"):
        (row,) = rows[name]
        cpu_s, peak_mb = row
        assert 0 <= cpu_s < 60
        assert peak_mb > 20
    hours = [cells for name in ("16", "128", "1024") for cells in rows[name]]
    assert [len(row) for row in hours] == [3, 3, 3]
    assert hours[0][0] == max(max(row) for row in hours)


def test_every_script_that_uses_the_package_jdrl_finds_it_before_the_benchmark_of_that_name() -> None:
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        uses = re.search(r"^(from|import) jdrl\b", text, re.MULTILINE)
        if uses and "__main__" in text:
            assert "sys.path.insert(0, str(Path(__file__).resolve().parent.parent))" in text[: uses.start()], path.name


def test_make_bench_runs_every_benchmark() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"python benchmarks/(\w+)\.py", recipe)
    assert sorted(commands) == list(SCRIPTS)
    pages = sorted(path.stem for path in (ROOT / "docs" / "benchmarks").glob("*.md"))
    # That of vsdd is written by a command, `sdd bench vsdd`.
    assert pages == sorted(["README", "vsdd", *SCRIPTS])
