from __future__ import annotations

from pathlib import Path

import pytest

from capture.pairing.pair_table import TableRow, read_table
from sdd_toolkit.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    for name in ("a 1.dng", "ä2.dng"):
        (tmp_path / "raw" / name).write_bytes(b"x")
    return tmp_path


def table(folder: Path, text: str) -> Path:
    (folder / "pairs.csv").write_text(text, encoding="utf-8-sig")
    return folder / "pairs.csv"


def test_paths_are_relative_to_the_table_or_to_the_source(folder: Path) -> None:
    raw = folder / "raw"
    rows = read_table(table(folder, "blur,sharp,scene\nraw/a 1.dng,ä2.dng,lake\n\n"), [raw])
    assert rows == (TableRow(raw / "a 1.dng", raw / "ä2.dng", "lake", ""),)


def test_case_and_spaces_of_the_column_names_do_not_matter(folder: Path) -> None:
    rows = read_table(table(folder, "Blur, SHARP ,Id\nraw/a 1.dng,raw/ä2.dng,x\n"), [])
    assert rows == (TableRow(folder / "raw/a 1.dng", folder / "raw/ä2.dng", "", "x"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blur\nraw/a 1.dng\n", "no column 'sharp'"),
        ("", "no column 'blur'"),
        ("blur,sharp\nraw/a 1.dng,raw/none.dng\n", r"line 2: sharp names no file: 'raw/none\.dng'"),
        (f"blur,sharp\nraw/a 1.dng,{'x' * 5000}\n", "line 2: sharp names no file: 'xxx"),
        ("blur,sharp\nraw/a 1.dng\n", "line 2: sharp names no file: ''"),
        ("blur,sharp\nraw/a 1.dng,raw/../raw/a 1.dng\n", "paired with itself"),
        ("blur,sharp,id\nraw/a 1.dng,raw/ä2.dng,x\nraw/ä2.dng,raw/a 1.dng,x\n", "'x' appears twice"),
    ],
)
def test_a_table_that_does_not_fit_says_where(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(table(folder, text), [])


def test_a_table_that_is_missing_or_not_text_is_an_error(folder: Path) -> None:
    (folder / "image.csv").write_bytes(b"\xff\xd8\xff\xe0")
    for name in ("missing.csv", "image.csv"):
        with pytest.raises(InputError, match=name):
            read_table(folder / name, [])
