"""ExifTool as the last source of metadata."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from sdd_toolkit.metadata.exiftool import find_program, parse_distance_m, parse_lens, parse_number, read_tags
from tests.support.dng_files import scene_rgb, write_dng

needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")


@needs_exiftool
def test_exiftool_answers_for_a_batch_of_files(tmp_path: Path) -> None:
    files = [write_dng(tmp_path / f"{name}.dng", scene_rgb(24, 36), exif={"f_number": 2.0}) for name in ("a", "ü b")]
    told = read_tags(files)
    assert [told[path]["FNumber"] for path in files] == [2, 2]


@needs_exiftool
@pytest.mark.parametrize("name", ["-execute.dng", "-delete_original.dng", "a\n-all=.dng", "touch hacked|", "@args.dng"])
def test_a_hostile_name_runs_nothing_and_changes_nothing(tmp_path: Path, name: str) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(24, 36)).rename(tmp_path / name)
    before = path.read_bytes()
    read_tags([path])
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == before


def test_a_relative_path_is_not_asked_about(tmp_path: Path) -> None:
    assert read_tags([Path("-ver")]) == {}


def test_without_exiftool_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    find_program.cache_clear()
    assert read_tags([tmp_path / "a.dng"]) == {}
    monkeypatch.undo()
    find_program.cache_clear()


@pytest.mark.parametrize(
    ("value", "told"), [("0.5", 0.5), (0, None), ("undef", None), ("inf", None), (None, None), (-3, None)]
)
def test_only_positive_finite_numbers_count(value: object, told: float | None) -> None:
    assert parse_number(value) == told


def test_a_lens_at_infinity_and_a_lens_without_a_name() -> None:
    assert parse_distance_m({"FocusDistance": "inf"}) == math.inf
    assert parse_distance_m({"FocusDistance": 0, "SubjectDistance": 2.5}) == 2.5
    assert parse_lens({"LensModel": "", "LensID": "Unknown (254)", "Lens": "50mm f/1.4"}) == "50mm f/1.4"
    assert parse_lens({"LensModel": "---- "}) is None
