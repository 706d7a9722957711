"""Names in any language and any Unicode form, and the files of systems beside photographs."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.inspection.scan import scan_folders
from capture.pairing.scenes import split_role
from capture.virtual.sources import find_photographs
from sdd_toolkit.audit.verify import verify_shards
from sdd_toolkit.errors import InputError
from sdd_toolkit.layouts.catalogue import survey_folder
from sdd_toolkit.layouts.export_stage import export_dataset
from sdd_toolkit.layouts.frame_names import equal_names, safe_ids
from sdd_toolkit.layouts.import_stage import ImportConfig, import_as_manifest, import_dataset
from sdd_toolkit.layouts.listing import list_files
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.pipeline.manifest import is_file_name, read_manifest
from sdd_toolkit.shards.index import read_index
from tests.support.layout_trees import picture

NAMES = {
    "Capture 2026-05-12 at 4.42.48\u202fPM": "Capture 2026-05-12 at 4.42.48 PM",
    "Sn\u00edmek 2026-05-15 v\u00a013.05.05": "Sn\u00edmek 2026-05-15 v 13.05.05",
    "\u6e56\u3000\u6771\u5cb8": "\u6e56 \u6771\u5cb8",
    "tab\there": "tab here",
    "-rf": "-rf",
    "--out": "--out",
    "a  b": "a  b",
    "\U0001f469\u200d\U0001f52c lab \u2764\ufe0f": "\U0001f469\U0001f52c lab \u2764\ufe0f",
    "\u05e9\u05dc\u05d5\u05dd\u200f 1": "\u05e9\u05dc\u05d5\u05dd 1",
    "\u0635\u0648\u0631\u0629": "\u0635\u0648\u0631\u0629",
    "\u0939\u093f\u0928\u094d\u0926\u0940": "\u0939\u093f\u0928\u094d\u0926\u0940",
    "\ud55c\uad6d\uc5b4": "\ud55c\uad6d\uc5b4",
    "Ti\u1ebfng Vi\u1ec7t": "Ti\u1ebfng Vi\u1ec7t",
    "#1 & <b> 'x' \"y\" 100% $HOME;|*?": "#1 & <b> 'x' \"y\" 100% $HOME;|*?",
    "\U0001fae9 newer": "\U0001fae9 newer" if "\U0001fae9".isprintable() else "newer",
}
JUNK_FILES = (
    ".DS_Store", "._IMG_1.png", "Thumbs.db", "desktop.ini", ".hidden.png", "IMG_1.png~", "IMG_1.png.part",
    "IMG_1.png.crdownload", ".syncthing.IMG_1.png.tmp", "~$notes.png", ".IMG_1.png.swp",
)  # fmt: skip
JUNK_FOLDERS = (
    "__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".sync",
    ".git", "#recycle", ".thumbnails",
)  # fmt: skip


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("spelling", [str, decomposed])
def test_every_name_pairs_and_goes_round(tmp_path: Path, spelling: object) -> None:
    for name in NAMES:
        picture(tmp_path / f"set/soft \u00e9/{name}.png")
        picture(tmp_path / f"set/crisp/{spelling(name)}.png")  # type: ignore[operator]
    source = ImportConfig(blur=decomposed("soft \u00e9"), sharp="crisp")
    report = import_dataset(tmp_path / "set", tmp_path / "shards", PackConfig(patch_size=16), source)
    assert report.rejected == {}
    found = {pair_id for shard in read_index(tmp_path / "shards").shards for pair_id in shard.pairs}
    assert found == set(NAMES.values())
    verify_shards(tmp_path / "shards")
    for layout in ("png", "webdataset"):
        assert export_dataset(tmp_path / "shards", tmp_path / layout, layout=layout).rejected == {}
    report = import_dataset(tmp_path / "png", tmp_path / "back", PackConfig(patch_size=16))
    assert (report.done, report.rejected) == (len(NAMES), {})
    import_as_manifest(tmp_path / "set", tmp_path / "out", source)
    manifest = read_manifest(tmp_path / "out/ingested.jsonl")
    assert all(manifest.locate(record.sharp).is_file() for record in manifest.records)


def test_an_export_copied_by_a_system_that_decomposes_names_is_complete(tmp_path: Path) -> None:
    for role in ("blur", "gt"):
        picture(tmp_path / f"set/train/{role}/caf\u00e9.png")
    import_dataset(tmp_path / "set", tmp_path / "shards", PackConfig(patch_size=16))
    export_dataset(tmp_path / "shards", tmp_path / "png", layout="png")
    for path in sorted((tmp_path / "png").rglob("caf*")):
        path.rename(path.with_name(decomposed(path.name)))
    report = import_dataset(tmp_path / "png", tmp_path / "back", PackConfig(patch_size=16))
    assert (report.done, report.rejected) == (1, {})


def test_two_forms_of_one_name_beside_each_other_are_two_frames(tmp_path: Path) -> None:
    for role in ("blur", "sharp"):
        for name in ("caf\u00e9", decomposed("caf\u00e9")):
            picture(tmp_path / role / f"{name}.png")
    _, listing = survey_folder(tmp_path, "auto")
    assert len(listing.pairs) == 2
    assert all(Path(pair.blur).name == Path(pair.sharp).name for pair in listing.pairs)
    (tmp_path / "blur/caf\u00e9.png").unlink()
    _, listing = survey_folder(tmp_path, "auto")
    assert [Path(pair.sharp).name for pair in listing.pairs] == [decomposed("caf\u00e9.png")]


def test_ids_that_would_become_equal_differ() -> None:
    names = ["a b", "a\u00a0b", "a\u3000b", "a/b", "a-b", "\u00e9", "e\u0301", "\u200f", "\u200e", "\u200f.x"]
    ids = safe_ids(names)
    assert len(set(ids.values())) == len(names)
    assert (ids["a b"], ids["a-b"], ids["\u00e9"]) == ("a b", "a-b", "\u00e9")


@given(st.sets(st.text(min_size=1, max_size=12).filter(lambda text: "\\" not in text), max_size=6))
def test_any_text_becomes_an_id(names: set[str]) -> None:
    ids = safe_ids(names)
    assert len(set(ids.values())) == len(names)
    assert all(is_file_name(safe) for safe in ids.values())


def test_equal_names_are_found_in_any_form_but_not_guessed() -> None:
    assert equal_names(["\u00e9", "b"], ["e\u0301", "c"]) == [("\u00e9", "e\u0301")]
    assert equal_names(["\u00e9"], ["e\u0301", "\u00e9"]) == [("\u00e9", "\u00e9")]
    # A ring is also an Angstrom sign: three forms, two of them on one side.
    assert equal_names(["\u00c5"], ["A\u030a", "\u212b"]) == []


def test_role_words_are_read_in_any_form() -> None:
    assert split_role("Caf\u00e9_blur") == split_role(decomposed("Caf\u00e9_blur"))
    assert split_role(decomposed("\u00fc 2")) == (None, "\u00fc 2")


def test_other_commands_take_no_system_files_either(tmp_path: Path) -> None:
    for role in ("blur", "gt"):
        picture(tmp_path / f"set/train/{role}/1.png")
    (tmp_path / "png").mkdir()
    (tmp_path / "png/.DS_Store").touch()
    import_dataset(tmp_path / "set", tmp_path / "shards", PackConfig(patch_size=16))
    (tmp_path / "shards/._train-00000-of-00001.h5").write_bytes(b"\0\5\x16\7")
    verify_shards(tmp_path / "shards")
    assert export_dataset(tmp_path / "shards", tmp_path / "png", layout="png").done == 1
    picture(tmp_path / "photos/1.png")
    picture(tmp_path / "photos/x.png").tofile(tmp_path / "photos/._1.png")
    assert [source.image.name for source in find_photographs(tmp_path / "photos")] == ["1.png", "x.png"]
    (tmp_path / "mac/__MACOSX/train_c/source").mkdir(parents=True)
    (tmp_path / "mac/__MACOSX/train_c/target").mkdir()
    with pytest.raises(InputError, match="has no known layout; its folders: none"):
        survey_folder(tmp_path / "mac", "auto")


def test_import_and_ingest_leave_out_the_same_files_and_say_so(tmp_path: Path) -> None:
    picture(tmp_path / "set/photo.png")
    for name in JUNK_FILES:
        picture(tmp_path / "set/x.png").tofile(tmp_path / "set" / name)
    (tmp_path / "set/x.png").unlink()
    for folder in JUNK_FOLDERS:
        picture(tmp_path / "set" / folder / "IMG_1.png")
    listed, scanned = list_files(tmp_path / "set"), scan_folders([tmp_path / "set"])
    assert listed.paths == ("photo.png",)
    assert [file.name for file in scanned.files] == ["photo.png"]
    refused = {entry.path: entry.detail for entry in listed.refused}
    assert refused == {entry.path: entry.detail for entry in scanned.rejected}
    assert refused.keys() == {*JUNK_FILES, *JUNK_FOLDERS}
    assert refused["._IMG_1.png"] == "AppleDouble data of macOS"
    assert refused["@eaDir"] == "thumbnails of a Synology NAS, not searched"
    assert all(refused.values())
