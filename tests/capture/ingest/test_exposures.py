from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from capture.config import IngestConfig
from capture.ingest.stage import ingest_photographs
from capture.inspection import thumbnails
from capture.inspection.inspect_files import InspectionTask
from capture.inspection.thumbnails import Thumbnail, read_thumbnail
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.pipeline.manifest import read_manifest
from tests.support.dead_leaves import leaves_picture
from tests.support.dng_files import scene_rgb, write_dng

CODES = {
    "make": 271,
    "model": 272,
    "orientation": 274,
    "software": 305,
    "changed": 306,
    "taken_at": 36867,
    "serial": 42033,
}


def picture(path: Path, pixels: np.ndarray, **exif: str | int) -> Path:
    """A TIFF, PNG or JPEG of (H, W, 3) uint8 pixels; Exif in TIFF and JPEG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tags = [(CODES[name], "s", 0, value, True) for name, value in exif.items()]
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags, metadata=None, software=False)
        return path
    image = Image.fromarray(pixels)
    block = image.getexif()
    for name, value in exif.items():
        (block.get_ifd(0x8769) if name in ("taken_at", "serial") else block)[CODES[name]] = value
    image.save(path, exif=block)
    return path


def shot(path: Path, scene: int, blur: float = 0.0, **exif: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_dng(path, rendered(scene, blur) / 255 * 0.8, exif=exif)


def rendered(scene: int, blur: float = 0.0) -> np.ndarray:
    grey = leaves_picture(scene, 96, 144)
    soft = cv2.GaussianBlur(grey, (0, 0), blur) if blur else grey
    return np.rint(np.repeat(soft[..., None], 3, axis=-1) * 255).astype(np.uint8)


def ingested(folder: Path, pairing: str, **config: object) -> tuple[set[tuple[str, str]], dict[str, str]]:
    """The pairs of `folder`, and the reason of every other file."""
    out = folder.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    ingest_photographs([folder], out, IngestConfig(pairing=pairing, **config))
    pairs = {(record.blur.path, record.sharp.path) for record in read_manifest(out / "ingested.jsonl").records}
    with (out / "rejected_files.csv").open(encoding="utf-8", newline="") as stream:
        return pairs, {row["path"]: row["reason"] for row in csv.DictReader(stream)}


CAMERA = {"make": "Planted", "model": "Camera One"}


def time_of(second: int) -> str:
    return f"2026:05:01 10:00:{second:02d}"


@pytest.mark.parametrize("pairing", ["aperture", "focus", "sequence", "auto"])
def test_raw_and_jpeg_of_two_cards_are_one_pair_a_scene(tmp_path: Path, pairing: str) -> None:
    for second, (scene, blur, f_number) in enumerate(((1, 2.0, 1.8), (1, 0.0, 16.0))):
        name, taken = f"IMG_000{second + 1}", time_of(second)
        shot(tmp_path / f"card/RAW/{name}.dng", scene, blur, f_number=f_number, taken_at=taken)
        picture(tmp_path / f"card/JPG/{name}.jpg", rendered(scene, blur), taken_at=taken, **CAMERA)
        shutil.copytree(tmp_path / "card", tmp_path / "all/backup", dirs_exist_ok=True)
    shutil.move(tmp_path / "card", tmp_path / "all/card")
    pairs, reasons = ingested(tmp_path / "all", pairing)
    assert pairs == {("backup/RAW/IMG_0001.dng", "backup/RAW/IMG_0002.dng")}
    assert set(reasons.values()) == {"duplicate"}
    assert len(reasons) == 6


@pytest.mark.parametrize("pairing", ["aperture", "focus", "sequence", "auto"])
def test_an_edited_copy_is_no_frame_of_its_own(tmp_path: Path, pairing: str) -> None:
    raw = tmp_path / "photos"
    shot(raw / "IMG_0001.dng", 1, 2.0, f_number=1.8, taken_at=time_of(0))
    shot(raw / "IMG_0002.dng", 1, f_number=16.0, taken_at=time_of(2))
    curved = np.rint(255 * (rendered(1, 2.0) / 255.0) ** 0.7).astype(np.uint8)
    picture(raw / "IMG_0001-Edit.tif", curved, taken_at=time_of(0), software="an editor", **CAMERA)
    picture(raw / "IMG_0001.tif", curved, changed=time_of(50), software="an editor", **CAMERA)
    picture(raw / "export/IMG_0002.jpg", rendered(1)[::2, ::2], **CAMERA)
    (raw / "IMG_0002.heic").write_bytes(b"anything")
    (raw / "other.heic").write_bytes(b"anything")
    pairs, reasons = ingested(raw, pairing)
    assert pairs == {("IMG_0001.dng", "IMG_0002.dng")}
    edited = ("IMG_0001-Edit.tif", "IMG_0001.tif", "export/IMG_0002.jpg", "IMG_0002.heic")
    assert reasons == {**dict.fromkeys(edited, "duplicate"), "other.heic": "unsupported"}


def test_an_edited_copy_does_not_shift_a_sequence(tmp_path: Path) -> None:
    for second in range(4):
        pixels = rendered(second // 2, 2.0 * (second % 2 == 0))
        picture(tmp_path / f"raw/IMG_{second}.jpg", pixels, taken_at=time_of(second), **CAMERA)
    picture(tmp_path / "raw/IMG_0-Edit.jpg", rendered(0, 2.0) // 2, taken_at=time_of(0), software="x", **CAMERA)
    picture(tmp_path / "raw/IMG_1 (2).jpg", rendered(0), taken_at=time_of(1), **CAMERA)
    pairs, reasons = ingested(tmp_path / "raw", "sequence")
    assert pairs == {("IMG_0.jpg", "IMG_1.jpg"), ("IMG_2.jpg", "IMG_3.jpg")}
    assert reasons == {"IMG_0-Edit.jpg": "duplicate", "IMG_1 (2).jpg": "duplicate"}


def test_a_number_behind_a_name_is_a_frame_where_the_pictures_differ(tmp_path: Path) -> None:
    picture(tmp_path / "raw/x.jpg", rendered(1, 2.0), taken_at=time_of(0), **CAMERA)
    picture(tmp_path / "raw/x (1).jpg", rendered(1), taken_at=time_of(0), **CAMERA)
    pairs, reasons = ingested(tmp_path / "raw", "focus")
    assert (pairs, reasons) == ({("x.jpg", "x (1).jpg")}, {})


def test_two_bodies_that_number_alike_keep_their_frames(tmp_path: Path) -> None:
    for body, blur in (("left", 2.0), ("right", 0.0)):
        picture(tmp_path / f"raw/{body}/IMG_1.jpg", rendered(3, blur), taken_at=time_of(0), **CAMERA)
    pairs, reasons = ingested(tmp_path / "raw", "auto")
    assert (pairs, reasons) == ({("left/IMG_1.jpg", "right/IMG_1.jpg")}, {})


def test_a_recompressed_copy_in_another_folder_is_a_version(tmp_path: Path) -> None:
    original = picture(tmp_path / "raw/a/IMG_1.jpg", rendered(3, 1.0), taken_at=time_of(0), **CAMERA)
    copy = picture(tmp_path / "raw/b/IMG_1.jpg", cv2.imread(str(original)), taken_at=time_of(0), **CAMERA)
    assert copy.read_bytes() != original.read_bytes()
    _, reasons = ingested(tmp_path / "raw", "focus")
    assert reasons == {"a/IMG_1.jpg": "no_partner", "b/IMG_1.jpg": "duplicate"}


def test_two_shots_of_one_second_in_two_folders_are_a_pair_and_lose_no_frame(tmp_path: Path) -> None:
    for folder, blur in (("near", 2.0), ("far", 0.0)):
        path = tmp_path / f"raw/{folder}/1.jpg"
        picture(path, rendered(3, blur), taken_at=time_of(0), serial="0042", **CAMERA)
        assert read_meta(path).serial == "0042"
    pairs, reasons = ingested(tmp_path / "raw", "auto")
    assert (pairs, reasons) == ({("near/1.jpg", "far/1.jpg")}, {})


def test_a_thumbnail_is_read_once_for_versions_and_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for body, blur in (("left", 2.0), ("right", 0.0)):
        picture(tmp_path / f"raw/{body}/IMG_1.jpg", rendered(3, blur), taken_at=time_of(0), **CAMERA)
    read: list[str] = []

    def count(task: InspectionTask) -> Thumbnail:
        read.append(task.name)
        return read_thumbnail(task)

    monkeypatch.setattr(thumbnails, "read_thumbnail", count)
    assert ingested(tmp_path / "raw", "auto")[0] == {("left/IMG_1.jpg", "right/IMG_1.jpg")}
    assert sorted(read) == ["left/IMG_1.jpg", "right/IMG_1.jpg"]


def test_a_raw_file_is_paired_with_a_developed_picture_where_a_table_says_so(tmp_path: Path) -> None:
    shot(tmp_path / "raw/a.dng", 1, 2.0)
    picture(tmp_path / "raw/a.jpg", rendered(1))
    table = tmp_path / "pairs.csv"
    table.write_text("blur,sharp\nraw/a.dng,raw/a.jpg\n")
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig(pairing="csv"), table=table)
    (record,) = read_manifest(tmp_path / "out/ingested.jsonl").records
    assert (record.blur.path, record.sharp.path) == ("a.dng", "a.jpg")


def test_auto_says_why_a_raw_file_and_a_developed_picture_of_one_scene_are_no_pair(tmp_path: Path) -> None:
    shot(tmp_path / "raw/a.dng", 1, 2.0)
    picture(tmp_path / "raw/b.png", rendered(1))
    out = tmp_path / "out"
    ingest_photographs([tmp_path / "raw"], out, IngestConfig(pairing="auto"))
    text = (out / "rejected_files.csv").read_text()
    assert "a.dng is RAW, b.png a developed picture" in text


def test_damaged_raw_leaves_its_jpeg_in_use(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    whole = write_dng(tmp_path / "raw/IMG_1.dng", scene_rgb(40, 60))
    whole.write_bytes(whole.read_bytes()[:3000])
    for name, blur in (("IMG_1.jpg", 2.0), ("IMG_2.jpg", 0.0)):
        picture(tmp_path / "raw" / name, rendered(2, blur))
    pairs, reasons = ingested(tmp_path / "raw", "focus")
    assert (pairs, reasons) == ({("IMG_1.jpg", "IMG_2.jpg")}, {"IMG_1.dng": "unreadable"})


@pytest.mark.parametrize("suffix", ["dng", "jpg"])
@pytest.mark.parametrize("pairing", ["focus", "auto"])
@pytest.mark.parametrize("tag", [6, 3])
def test_tags_that_differ_on_a_stand_cost_no_pair(tmp_path: Path, suffix: str, pairing: str, tag: int) -> None:
    for name, blur, orientation in (("blur", 2.0, 1), ("sharp", 0.0, tag)):
        path = tmp_path / f"raw/{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == "dng":
            write_dng(path, rendered(5, blur) / 255 * 0.8, orientation=orientation)
        else:
            picture(path, rendered(5, blur), orientation=orientation)
    pairs, reasons = ingested(tmp_path / "raw", pairing)
    assert (pairs, reasons) == ({(f"blur.{suffix}", f"sharp.{suffix}")}, {})
    (record,) = read_manifest(tmp_path / "out/ingested.jsonl").records
    assert record.blur_turn == tag
    assert record.notes[0].startswith(f"the orientation tags differ (blurred 1, sharp {tag})")


def test_a_picture_that_a_program_has_turned_is_compared_as_displayed(tmp_path: Path) -> None:
    picture(tmp_path / "raw/blur.jpg", np.ascontiguousarray(np.rot90(rendered(5, 2.0), -1)))
    picture(tmp_path / "raw/sharp.jpg", rendered(5), orientation=6)
    for pairing in ("focus", "auto"):
        assert ingested(tmp_path / "raw", pairing)[0] == {("blur.jpg", "sharp.jpg")}
        (record,) = read_manifest(tmp_path / "out/ingested.jsonl").records
        assert (record.blur_turn, record.notes) == (1, ())
