from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from click.testing import CliRunner

from capture.commands import ingest
from sdd_toolkit.errors import InputError


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for seed, name in enumerate(("x_blur.png", "x_sharp.png", "y_blur.png")):
        cv2.imwrite(str(folder / name), np.random.default_rng(seed).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    return folder


def test_a_dry_run_shows_the_pairs_and_writes_nothing(tmp_path: Path) -> None:
    raw = pictures(tmp_path / "raw")
    done = CliRunner().invoke(ingest, [str(raw), "--out", str(tmp_path / "out"), "--dry-run", "--executor", "serial"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "x: x_blur.png -> x_sharp.png (role words, same folder)",
        "  y_blur.png: no_partner, the only frame of its scene",
        "1 pairs; 1 of 3 files in none",
    ]
    assert not (tmp_path / "out").exists()


def test_the_report_is_json_on_request_and_says_where_the_manifest_is(tmp_path: Path) -> None:
    raw, out = pictures(tmp_path / "raw"), tmp_path / "out"
    done = CliRunner().invoke(ingest, [str(raw), "--out", str(out), "--json", "--executor", "serial"])
    report = json.loads(done.stdout)
    assert (report["stage"], report["total"], report["rejected"]) == ("ingest", 3, {"no_partner": 1})
    assert report["outputs"] == [str(out / "ingested.jsonl"), str(out / "rejected_files.csv")]


def test_no_pair_is_an_error_with_its_commonest_reason(tmp_path: Path) -> None:
    raw, out = pictures(tmp_path / "raw"), tmp_path / "out"
    (raw / "notes.txt").write_text("x")
    words = [str(raw), "--out", str(out), "--executor", "serial", "--pairing", "aperture"]
    for name in ("x_blur.png", "x_sharp.png"):
        (raw / name).rename(raw / name.replace("_", "-").replace("blur", "1").replace("sharp", "2"))
    for _ in range(2):  # the second run reads nothing again
        error = CliRunner().invoke(ingest, words).exception
        assert isinstance(error, InputError)
        assert error.what == "4 files, no pair: no_partner, no frame tells its f-number"
        assert error.hint == f"try --pairing focus or auto; see {out / 'rejected_files.csv'}"
        assert error.exit_code == 2
    assert (out / "ingested.jsonl").is_file()
    done = CliRunner().invoke(ingest, [*words, "--dry-run"])
    assert done.stdout.splitlines()[-1].startswith("0 pairs; 4 of 4 files in none")
    assert isinstance(done.exception, InputError)
    assert (done.exception.what, done.exception.exit_code) == (error.what, error.exit_code)
    assert done.exception.hint == "try --pairing focus or auto"


def test_a_flag_wins_over_the_configuration_file(tmp_path: Path) -> None:
    raw, out = pictures(tmp_path / "raw"), tmp_path / "out"
    (tmp_path / "sdd.toml").write_text('[ingest]\npairing = "csv"\n')
    words = [str(raw), "--out", str(out), "--config", str(tmp_path / "sdd.toml"), "--executor", "serial"]
    assert CliRunner().invoke(ingest, [*words, "--pairing", "sequence"]).exit_code == 0
    assert isinstance(CliRunner().invoke(ingest, words).exception, InputError)
