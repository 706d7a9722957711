from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from sdd_toolkit.packing import stage as pack
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.raw.development import Demosaic, DevelopConfig
from sdd_toolkit.records import FileRef, Reason
from sdd_toolkit.report.alignment_check import most_textured_window, overlay
from sdd_toolkit.report.pictures import PictureTask, jpeg, picture_pair
from tests.support.planted_pairs import alignment, build_folder, record, write_pair

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.records import PairRecord


def task(folder: Path, pair: PairRecord, width_px: int = 120) -> PictureTask:
    return PictureTask(pair, root=folder, folder=folder, shards=None, width_px=width_px, jpeg_quality=95)


def image(uri: str | None) -> np.ndarray:
    assert uri is not None
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def test_an_aligned_pair_shows_both_frames_in_register(tmp_path: Path) -> None:
    shown = picture_pair(task(tmp_path, write_pair(tmp_path, record("a"))))
    assert shown.notes == ()
    assert image(shown.blurred).shape == image(shown.sharp).shape == (*shown.size, 3)
    inner = (slice(5, -5), slice(5, -5))
    assert np.abs(image(shown.blurred)[inner] - image(shown.sharp)[inner]).mean() < 4


def test_the_alignment_check_has_coloured_fringes_before_and_hardly_any_after(tmp_path: Path) -> None:
    unblurred = replace(alignment(), coc_px=0.0)
    shown = picture_pair(task(tmp_path, write_pair(tmp_path, record("a", alignment=unblurred))))
    fringe = [np.abs(image(uri)[..., 0] - image(uri)[..., 1]).mean() for uri in (shown.before, shown.after)]
    assert fringe[0] > 5 * fringe[1]


def test_the_flow_map_states_its_scale_and_shows_the_direction(tmp_path: Path) -> None:
    measured = replace(alignment(), residual_p95_px=0.9)
    shown = picture_pair(task(tmp_path, write_pair(tmp_path, record("a", alignment=measured))))
    assert shown.flow_scale_px == 1.0
    assert image(shown.flow).mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=3)


def test_a_pair_that_could_not_be_aligned_is_shown_as_shot(tmp_path: Path) -> None:
    failed = replace(alignment(), failure=Reason.DIFFERENT_SCENE, error_px=None)
    shown = picture_pair(task(tmp_path, write_pair(tmp_path, record("a", Reason.DIFFERENT_SCENE, alignment=failed))))
    assert shown.size == (80, 120)
    assert (shown.before, shown.flow) == (None, None)
    assert "not aligned" in shown.caption


def test_a_missing_source_is_a_note_without_the_machine_s_folders(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, record("a"))
    (tmp_path / pair.blur.path).unlink()
    shown = picture_pair(task(tmp_path, pair))
    assert shown.sharp is None
    assert "raw/a_blur.png" in shown.notes[0]
    assert str(tmp_path) not in shown.notes[0]
    assert shown.flow is not None


def test_a_path_that_leaves_its_root_is_not_followed(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, record("a"))
    outside = replace(pair, blur=FileRef("../../etc/passwd", 1, "0" * 64), alignment=None)
    assert "leaves its root" in picture_pair(task(tmp_path, outside)).notes[0]


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_flow_file_is_a_note(tmp_path: Path, damage: bytes | None) -> None:
    pair = write_pair(tmp_path, record("a"))
    path = tmp_path / "flow" / "a.npz"
    path.unlink() if damage is None else path.write_bytes(damage)
    shown = picture_pair(task(tmp_path, pair))
    assert shown.flow is None
    assert "flow/a.npz" in shown.notes[0]
    assert shown.sharp is not None


def test_an_unsure_flow_is_drawn_grey(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, record("a"))
    colourful = picture_pair(task(tmp_path, pair)).flow
    with np.load(tmp_path / "flow" / "a.npz") as stored:
        flow = stored["flow"]
    np.savez(tmp_path / "flow" / "a.npz", flow=flow, confidence=np.zeros(flow.shape[:2], np.uint8))
    unsure = picture_pair(task(tmp_path, pair)).flow
    assert np.ptp(image(colourful), axis=-1).max() > 100
    assert np.ptp(image(unsure), axis=-1).max() == 0


def test_a_packed_flow_is_as_unsure_as_the_alignment_found_it(tmp_path: Path) -> None:
    folder = build_folder(tmp_path, [record("a")])
    pack.pack_dataset(folder / "filtered.jsonl", folder / "shards", PackConfig(patch_size=64, min_size_px=64))
    packed = replace(
        task(folder, manifest.read_manifest(folder / "filtered.jsonl").records[0]), shards=folder / "shards"
    )
    assert np.ptp(image(picture_pair(packed).flow), axis=-1).max() > 100
    with np.load(folder / "flow" / "a.npz") as stored:
        flow = stored["flow"]
    np.savez(folder / "flow" / "a.npz", flow=flow, confidence=np.zeros(flow.shape[:2], np.uint8))
    assert np.ptp(image(picture_pair(packed).flow), axis=-1).max() == 0


def packed_task(folder: Path, pair: PairRecord, demosaic: Demosaic = Demosaic.AHD, **packing: str) -> PictureTask:
    """The task of a pair that was packed, its sources gone since."""
    build_folder(folder, [pair])
    config, develop = PackConfig(patch_size=32, min_size_px=32, **packing), DevelopConfig(demosaic=demosaic)
    pack.pack_dataset(folder / "filtered.jsonl", folder / "shards", config, develop=develop)
    shutil.rmtree(folder / "raw")
    return replace(task(folder, manifest.read_manifest(folder / "filtered.jsonl").records[0]), shards=folder / "shards")


@pytest.mark.parametrize("packing", [{}, {"encoding": "linear16"}, {"profile": "raw"}, {"demosaic": Demosaic.HALF}])
def test_a_packed_pair_is_moved_back_to_where_it_was_shot(tmp_path: Path, packing: dict[str, Any]) -> None:
    unblurred = record("a", alignment=replace(alignment(), coc_px=0.0))
    as_shot = picture_pair(task(tmp_path / "shot", write_pair(tmp_path / "shot", unblurred)))
    shown = picture_pair(packed_task(tmp_path, unblurred, **packing))
    assert (shown.notes, shown.moved_back, as_shot.moved_back) == ((), True, False)
    fringes = [
        [np.abs(image(uri)[..., 0] - image(uri)[..., 1]).mean() for uri in (one.before, one.after)]
        for one in (shown, as_shot)
    ]
    assert fringes[0][0] > 5 * fringes[0][1]
    assert fringes[0][0] == pytest.approx(fringes[1][0], rel=0.25)


def test_a_packed_pair_is_moved_back_by_all_of_its_motion(tmp_path: Path) -> None:
    """The red of both pictures is the same content: as shot, and moved to the sharp frame and back."""
    rows = ((1.03, 0.02, 6.0), (-0.02, 1.03, -4.0), (0.0, 0.0, 1.0))
    turned = replace(alignment(), rows=rows, radial=0.02, box=(16, 16, 224, 144), coc_px=0.0)
    shot = picture_pair(task(tmp_path / "shot", write_pair(tmp_path / "shot", record("a", alignment=turned))))
    shown = picture_pair(packed_task(tmp_path, record("a", alignment=turned)))
    red, red_as_shot = image(shown.before)[..., 0], image(shot.before)[..., 0]
    # The window is as large as the frame, or what was packed of it: half-size pixels 8 … 112 by 8 … 72, shown twice.
    assert (red.shape, red_as_shot.shape) == ((128, 208), (160, 240))
    inner = (slice(16, -16), slice(24, -24))
    assert np.abs(red - red_as_shot[16:144, 16:224])[inner].mean() < 3
    assert np.abs(image(shown.after)[..., 0] - red_as_shot[16:144, 16:224])[inner].mean() > 15


def test_an_overlay_of_equal_frames_is_grey() -> None:
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.ptp(overlay(plane, plane), axis=-1).max() == 0


def test_the_telling_window_is_where_texture_moved_most() -> None:
    plane = np.zeros((60, 80), dtype=np.uint8)
    plane[5:15, 5:15] = np.random.default_rng(0).integers(0, 255, (10, 10))
    plane[40:50, 60:70] = plane[5:15, 5:15]
    moved = np.tile(np.linspace(0, 5, 80, dtype=np.float32), (60, 1))
    top, left, height, width = most_textured_window(plane, moved, (0, 0, 80, 60), (14, 14))
    assert (height, width) == (14, 14)
    assert 34 <= top <= 41
    assert 54 <= left <= 61


def test_a_window_larger_than_the_box_is_cut_to_it() -> None:
    plane = np.zeros((60, 80), dtype=np.uint8)
    found = most_textured_window(plane, np.zeros((60, 80), dtype=np.float32), (10, 20, 30, 25), (50, 50))
    assert found == (20, 10, 5, 20)


def test_a_jpeg_keeps_colour_edges() -> None:
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255
    assert np.abs(image(jpeg(stripes, 95)) - stripes).mean() < 20


def test_an_alignment_that_makes_no_sense_still_gives_a_picture(tmp_path: Path) -> None:
    absurd = replace(alignment(), box=(-50, 9000, 10, 9001), coc_px=1e12)
    shown = picture_pair(task(tmp_path, write_pair(tmp_path, record("a", alignment=absurd))))
    assert shown.sharp is not None
    assert shown.flow is not None
