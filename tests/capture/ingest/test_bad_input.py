"""Everything a folder may hold that is no photograph: each is listed with its reason, and nothing stops the run."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from capture.config import IngestConfig
from capture.ingest.pairs import IngestResult
from capture.ingest.stage import find_pairs
from sdd_toolkit.records import Reason
from tests.support.dng_files import scene_rgb, write_dng


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with one pair that is fine."""
    for name, level in (("x_blur.dng", 0.8), ("x_sharp.dng", 1.0)):
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_dng(tmp_path / "raw" / name, scene_rgb(40, 60) * level)
    return tmp_path / "raw"


def listed(folder: Path) -> dict[str, tuple[Reason, str]]:
    found: IngestResult = find_pairs([folder], folder.parent / "out", IngestConfig())
    assert [record.blur.path for record in found.pairs.records] == ["x_blur.dng"]
    return {entry.path: (entry.reason, entry.detail) for entry in found.rejected}


def test_empty_cut_and_renamed_files_are_listed(raw: Path) -> None:
    whole = (raw / "x_blur.dng").read_bytes()
    jpeg = cv2.imencode(".jpg", (scene_rgb(40, 60) * 255).astype("uint8"))[1].tobytes()
    contents = {
        "empty.dng": b"",
        "cut.dng": whole[:-1],
        "renamed.CR2": jpeg,
        "cut.jpg": jpeg[:-40],
        "noise.nef": b"noise" * 500,
    }
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    assert listed(raw) == {
        "empty.dng": (Reason.UNREADABLE, "empty.dng is empty"),
        "cut.dng": (Reason.UNREADABLE, f"cut.dng is cut short: {len(whole) - 1} of {len(whole)} bytes"),
        "renamed.CR2": (Reason.UNREADABLE, "renamed.CR2 is a JPEG named .cr2"),
        "cut.jpg": (Reason.UNREADABLE, "cut.jpg is cut short: its end marker is missing"),
        "noise.nef": (Reason.UNREADABLE, "cannot decode noise.nef: Unsupported file format or not RAW file"),
    }


def test_folders_links_and_pipes_with_a_photographs_name_are_listed(raw: Path) -> None:
    (raw / "folder.CR2").mkdir()
    (raw / "loop").symlink_to(raw)
    (raw / "self.dng").symlink_to("self.dng")
    os.mkfifo(raw / "pipe.dng")
    reasons = {name: reason for name, (reason, _) in listed(raw).items()}
    assert reasons == {
        "folder.CR2": Reason.UNSUPPORTED,
        "loop": Reason.UNSUPPORTED,
        "self.dng": Reason.UNREADABLE,
        "pipe.dng": Reason.UNSUPPORTED,
    }


def test_a_name_in_latin_1_is_listed_as_far_as_it_can_be_written(raw: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(raw) + b"/caf\xe9.dng")).write_bytes((raw / "x_blur.dng").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert listed(raw) == {"caf\ufffd.dng": (Reason.UNREADABLE, "its name is not UTF-8")}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_listed(raw: Path) -> None:
    (raw / "secret.dng").write_bytes(b"x")
    (raw / "secret.dng").chmod(0)
    assert listed(raw)["secret.dng"] == (Reason.UNREADABLE, "Permission denied")


def test_a_huge_hole_of_a_file_is_not_read_into_memory(raw: Path) -> None:
    with (raw / "hole.dng").open("wb") as stream:
        stream.truncate(3 << 30)
    with (raw / "hole.tif").open("wb") as stream:
        stream.write(b"II*\0\x08\0\0\0")
        stream.truncate(3 << 30)
    assert {name: reason for name, (reason, _) in listed(raw).items()} == {
        "hole.dng": Reason.UNREADABLE,
        "hole.tif": Reason.UNREADABLE,
    }
