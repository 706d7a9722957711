from __future__ import annotations

import codecs
import os
import unicodedata
from pathlib import Path

import pytest

from capture.pairing.pair_table import TableRow, read_table
from capture.tether.plan import read_plan
from capture.tether.plan_template import render_template
from sdd_toolkit.config import read_toml
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.storage.user_text import FileFinder, read_user_text

ENCODINGS = {
    "utf-8": ("utf-8", b""),
    "utf-8 with its mark": ("utf-8", codecs.BOM_UTF8),
    "utf-16": ("utf-16-le", codecs.BOM_UTF16_LE),
    "utf-16, big end first": ("utf-16-be", codecs.BOM_UTF16_BE),
    "utf-32": ("utf-32-le", codecs.BOM_UTF32_LE),
    "Windows-1252": ("cp1252", b""),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("raw/weich ä.png", "raw/scharf ö.png", "raw/IMG_1.JPG", "raw/a;b.png", "raw/a,b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def encoded(text: str, name: str) -> bytes:
    encoding, mark = ENCODINGS[name]
    return mark + text.encode(encoding)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_configurations_and_plans_are_read_in_every_encoding(tmp_path: Path, name: str, end: str) -> None:
    text = "[report]\ntitle = \"Zürich\"\n[build]\nsources = ['C:\\Fotos']\n".replace("\n", end)
    (tmp_path / "my.toml").write_bytes(encoded(text, name))
    assert read_toml(tmp_path / "my.toml") == {"report": {"title": "Zürich"}, "build": {"sources": ["C:\\Fotos"]}}
    plan = render_template(2, "focus").replace("…", "...").encode("cp1252", "ignore").decode("cp1252")
    (tmp_path / "plan.toml").write_bytes(encoded(plan.replace("\n", end), name))
    assert len(read_plan(tmp_path / "plan.toml").shots) > 1


def test_a_windows_path_in_double_quotes_is_answered_with_how_to_write_it(tmp_path: Path) -> None:
    for path in ("C:\\photos", "C:\\Users"):
        (tmp_path / "my.toml").write_text(f'[build]\nsources = ["{path}"]\n')
        with pytest.raises(ConfigError) as caught:
            read_toml(tmp_path / "my.toml")
        assert "single quotes" in caught.value.hint


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep", "\r\n"])
def test_pair_tables_are_read_as_excel_saves_them(folder: Path, name: str, separator: str, first: str) -> None:
    lines = [
        ["Blur\u00a0", " SHARP", "Scene", "", ""],
        ["raw\\weich ä.png", '"raw\\scharf ö.png"', "See\u00a0", "", ""],
        ["", "", "", "", ""],
    ]
    text = "".join(separator.join(line) + "\r\n" for line in lines)
    text = (f"sep={separator}\r\n" if first == "sep" else first) + text
    (folder / "pairs.csv").write_bytes(encoded(text, name))
    found = read_table(folder / "pairs.csv", [])
    assert found == (TableRow(folder / "raw/weich ä.png", folder / "raw/scharf ö.png", "See", ""),)


def test_separators_within_names_are_no_separators(folder: Path) -> None:
    for text in ('blur;sharp\nraw/a,b.png;"raw/a;b.png"\n', 'blur,sharp\n"raw/a,b.png",raw/a;b.png\n'):
        (folder / "pairs.csv").write_text(text)
        (row,) = read_table(folder / "pairs.csv", [])
        assert (row.blur.name, row.sharp.name) == ("a,b.png", "a;b.png")


def test_lines_are_counted_as_the_editor_shows_them(folder: Path) -> None:
    (folder / "pairs.csv").write_text("sep=;\n\nblur;sharp\nraw/a,b.png;raw/a;\n")
    with pytest.raises(InputError, match=r"line 4: sharp names no file: 'raw/a'"):
        read_table(folder / "pairs.csv", [])


def test_files_are_found_as_windows_and_macos_spell_them(folder: Path) -> None:
    spelt = {
        "raw\\IMG_1.JPG": "IMG_1.JPG",
        "RAW\\img_1.jpg": "IMG_1.JPG",
        " raw/IMG_1.JPG\u00a0": "IMG_1.JPG",
        unicodedata.normalize("NFD", "raw/weich ä.png"): "weich ä.png",
    }
    for text, name in spelt.items():
        found = FileFinder([folder]).find(text)
        assert found is not None
        assert found.name == name


def test_a_spelling_that_fits_two_files_or_none_finds_none(folder: Path) -> None:
    for name in ("x.png", "X.png"):
        (folder / name).write_bytes(b"x")
    assert FileFinder([folder]).find("x.PNG") is None
    assert FileFinder([folder]).find("X.png") == folder / "X.png"
    for text in ("", " ", "raw", "raw/none.png", "a\0b", "raw/none/../IMG_1.JPG.png"):
        assert FileFinder([folder]).find(text) is None


def test_the_exact_spelling_in_any_folder_comes_before_another_case_or_form(tmp_path: Path) -> None:
    spellings = {"first": "IMG_1.JPG", "second": unicodedata.normalize("NFD", "ä.jpg"), "third": "img_1.jpg"}
    for folder, name in spellings.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"x")
    (tmp_path / "first/Ä.jpg").write_bytes(b"x")
    finder = FileFinder([tmp_path / folder for folder in spellings])
    assert finder.find("img_1.jpg") == tmp_path / "third/img_1.jpg"
    assert finder.find("ä.jpg") == tmp_path / "second" / spellings["second"]
    assert finder.find("Img_1.jpg") == tmp_path / "first/IMG_1.JPG"


def test_a_folder_is_not_listed_anew_for_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"IMG_{number}.JPG").write_bytes(b"x")
    listed: list[Path] = []
    list_folder = os.listdir

    def count(folder: Path) -> list[str]:
        listed.append(folder)
        return list_folder(folder)

    monkeypatch.setattr("os.listdir", count)
    finder = FileFinder([tmp_path])
    assert [finder.find(f"img_{number}.jpg") for number in range(5)] == [
        tmp_path / f"IMG_{number}.JPG" for number in range(5)
    ]
    assert len(listed) == 2  # once by Unicode form, once by case


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r")
    with pytest.raises(UnicodeDecodeError):
        read_user_text(tmp_path / "a")
