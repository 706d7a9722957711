from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from capture.inspection.scan import scan_folders
from capture.virtual.config import SimulateConfig
from capture.virtual.stage import Series, simulate_pairs
from sdd_toolkit.errors import InputError
from sdd_toolkit.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def test_every_file_is_found_or_rejected_but_our_own(tmp_path: Path) -> None:
    touch(tmp_path / "b/x 1.NEF", tmp_path / "a.jpg", tmp_path / "notes.txt", tmp_path / ".DS_Store")
    touch(tmp_path / ".trash/x.dng", tmp_path / "out/old.png")
    found = scan_folders([tmp_path], excluded=[tmp_path / "out"])
    assert [file.name for file in found.files] == ["a.jpg", "b/x 1.NEF"]
    assert {entry.path: entry.detail for entry in found.rejected} == {
        ".DS_Store": "a hidden file",
        ".trash": "a hidden folder, not searched",
        "notes.txt": "not an image (.txt)",
    }
    assert found.root == tmp_path


def test_the_root_is_what_the_sources_have_in_common(tmp_path: Path) -> None:
    touch(tmp_path / "d/one/a.dng", tmp_path / "d/two/b.dng", tmp_path / "d/three/c.dng")
    found = scan_folders([tmp_path / "d/one", tmp_path / "d/two/b.dng", tmp_path / "d/one"])
    assert found.root == tmp_path / "d"
    assert [file.name for file in found.files] == ["one/a.dng", "two/b.dng"]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.dng", tmp_path / "store/b.dng")
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    (tmp_path / "in/c.dng").symlink_to(tmp_path / "store/b.dng")
    (tmp_path / "in/gone.dng").symlink_to(tmp_path / "nowhere")
    found = scan_folders([tmp_path / "in"])
    assert [(file.name, file.ref) for file in found.files] == [("in/a.dng", "in/a.dng"), ("in/c.dng", "store/b.dng")]
    assert [(entry.path, entry.reason) for entry in found.rejected] == [
        ("in/again", Reason.UNSUPPORTED),
        ("in/gone.dng", Reason.UNREADABLE),
    ]


def test_a_folder_keeps_its_own_path_whatever_links_to_it_are_called(tmp_path: Path) -> None:
    touch(tmp_path / "in/z/a.dng", tmp_path / "in/m/b.dng")
    (tmp_path / "in/a-link").symlink_to("z")
    (tmp_path / "in/m/c-link").symlink_to("../z")
    found = scan_folders([tmp_path / "in"])
    assert [file.name for file in found.files] == ["m/b.dng", "z/a.dng"]
    assert [entry.path for entry in found.rejected] == ["a-link", "m/c-link"]


def test_a_folder_named_like_a_raw_file_is_reported_and_searched(tmp_path: Path) -> None:
    touch(tmp_path / "x.CR2/a.dng")
    found = scan_folders([tmp_path])
    assert [file.name for file in found.files] == ["x.CR2/a.dng"]
    assert [(entry.path, entry.detail) for entry in found.rejected] == [
        ("x.CR2", "a folder, though named like a photograph")
    ]


def test_a_link_into_a_store_keeps_its_own_name(tmp_path: Path) -> None:
    blob = tmp_path / "hub/datasets--a--b/blobs" / ("0" * 64)
    touch(blob)
    snapshot = tmp_path / "hub/datasets--a--b/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "a.jpg").symlink_to(f"../../blobs/{blob.name}")
    (file,) = scan_folders([snapshot]).files
    assert (file.path, file.name) == (snapshot / "a.jpg", "snapshots/0123/a.jpg")
    assert file.ref == file.name
    assert scan_folders([snapshot]).root == tmp_path / "hub/datasets--a--b"


def test_links_in_a_circle_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path / "a.dng")
    for name, target in (("self.dng", "self.dng"), ("x.dng", "y.dng"), ("y.dng", "x.dng"), ("folder", "folder")):
        (tmp_path / name).symlink_to(tmp_path / target)
    found = scan_folders([tmp_path])
    assert [file.name for file in found.files] == ["a.dng"]
    assert {entry.path for entry in found.rejected} == {"self.dng", "x.dng", "y.dng", "folder"}


def test_a_link_to_nowhere_does_not_move_the_root(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.dng")
    (tmp_path / "in/gone.dng").symlink_to("/nowhere/else/gone.dng")
    assert scan_folders([tmp_path / "in"]).root == tmp_path / "in"


def test_a_folder_that_cannot_be_listed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.dng", tmp_path / "locked/b.dng")
    listed = os.scandir

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:  # root may list everything, so chmod would not do
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan_folders([tmp_path])
    assert [file.name for file in found.files] == ["a.dng"]
    assert [(entry.path, entry.reason) for entry in found.rejected] == [("locked", Reason.UNREADABLE)]


def test_what_is_no_regular_file_or_has_an_unwritable_name_is_rejected(tmp_path: Path) -> None:
    touch(tmp_path / "a.dng")
    os.mkfifo(tmp_path / "pipe.dng")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.dng"))).write_bytes(b"x")
    reasons = {entry.path: entry.reason for entry in scan_folders([tmp_path]).rejected}
    assert reasons == {"pipe.dng": Reason.UNSUPPORTED, "\ufffd.dng": Reason.UNREADABLE}


def test_a_missing_folder_and_one_without_photographs_are_errors(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(InputError, match="there is no file or folder"):
        scan_folders([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="neither a RAW file nor an image"):
        scan_folders([tmp_path])


def test_files_that_the_toolkit_wrote_are_counted_apart(tmp_path: Path) -> None:
    simulate_pairs(tmp_path / "series", SimulateConfig(width=96, height=64, max_coc_px=3), Series(scenes=2))
    own = {"session.jsonl": '{"format": "sdd-session", ', "session.state.json": '{"flight": null, "lens": null}\n'}
    for name, text in own.items():
        (tmp_path / "series" / name).write_text(text)
    mine = {"other.jsonl": '{"a": 1}', "truth.npz": "PK", "simulate.json": "{}", "session.state.json": "{}"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    found = scan_folders([tmp_path])
    assert len(found.files) == 4
    assert sorted(entry.path for entry in found.rejected) == sorted(mine)
    # The truth of two scenes, the record of the series, two files of a session.
    assert found.side_files == 5
    truth = next((tmp_path / "series").rglob("truth.npz"))
    assert scan_folders([tmp_path, tmp_path / "series", truth]).side_files == 5
