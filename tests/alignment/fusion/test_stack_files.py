from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignment.config import AlignConfig
from alignment.fusion import stack_files
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.decoding import read_values
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.file_metadata import read_file_metadata
from sdd_toolkit.records import Reason
from tests.support.dng_files import NEUTRAL, write_dng
from tests.support.paths import SHARED
from tests.support.planted_stacks import REFERENCE, SIZE, planted_stack, psnr_db, write_stack

DATA = SHARED / "data/focal_stacks"


def fuse(paths: list[Path], folder: Path, reference: int = REFERENCE) -> stack_files.Fusion:
    sources = [stack_files.SourceFrame(path, path.name) for path in paths]
    return stack_files.fuse_files(sources, reference, folder / "all", AlignConfig())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, list[Path], stack_files.Fusion]:
    folder = tmp_path_factory.mktemp("stack")
    truth, paths = write_stack(folder)
    return folder, truth, paths, fuse(paths, folder)


def test_a_stack_of_images_becomes_a_16_bit_picture_near_the_truth(
    images: tuple[Path, np.ndarray, list[Path], stack_files.Fusion],
) -> None:
    folder, truth, paths, found = images
    best_db = max(psnr_db(frames.read_full(path), truth) for path in paths)
    assert cv2.imread(str(folder / "all.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert psnr_db(frames.read_full(folder / found.picture), truth, 24) > best_db + 6


def test_the_map_holds_the_indices_of_frames_and_the_record_their_shares(
    images: tuple[Path, np.ndarray, list[Path], stack_files.Fusion],
) -> None:
    folder, _, _, found = images
    origin = read_values(folder / found.origin)
    shares = [float(np.mean(origin == number)) for number in range(3)]
    assert origin.shape == SIZE
    assert [frame.share for frame in found.frames] == pytest.approx(shares, abs=1e-5)
    assert min(shares) > 0.25


def test_the_record_is_json_that_reads_back(images: tuple[Path, np.ndarray, list[Path], stack_files.Fusion]) -> None:
    folder, _, _, found = images
    assert json.loads((folder / "all.json").read_text())["format"] == "sdd-fusion"
    assert stack_files.read_fusion(folder / "all.json") == found


@pytest.mark.parametrize("damage", ["all.png", "all_origin.png", "all.json"])
def test_a_fusion_that_lost_a_file_is_none(damage: str, tmp_path: Path) -> None:
    _, paths = write_stack(tmp_path)
    fuse(paths, tmp_path)
    (tmp_path / damage).write_bytes(b"")
    (tmp_path / "all_origin.png").unlink()
    assert stack_files.read_fusion(tmp_path / "all.json") is None


def test_a_changed_picture_is_no_fusion(tmp_path: Path) -> None:
    _, paths = write_stack(tmp_path)
    fuse(paths, tmp_path)
    content = bytearray((tmp_path / "all.png").read_bytes())
    content[-20] ^= 1
    (tmp_path / "all.png").write_bytes(content)
    assert stack_files.read_fusion(tmp_path / "all.json") is None


def test_raw_files_become_a_dng_that_every_stage_reads_like_its_sources(tmp_path: Path) -> None:
    truth, linear = planted_stack()
    paths = [tmp_path / f"step{number}.dng" for number in range(3)]
    for path, frame in zip(paths, linear, strict=True):
        shot = {"f_number": 2.8, "taken_at": "2026:01:01 10:00:00"}
        author = ((315, "s", 0, "A. Photographer", True), (700, "B", 11, b"<x:xmpmeta/", True))
        write_dng(path, frame * np.array(NEUTRAL) * 0.9, exif=shot, extra=author)
    found = fuse(paths, tmp_path)
    copied = read_file_metadata(tmp_path / found.picture)
    assert copied.tree is not None
    assert copied.tree.directories["main"][315].value == b"A. Photographer\0"
    assert copied.xmp == b"<x:xmpmeta/"
    reference, picture = frames.read_half(paths[REFERENCE]), frames.read_half(tmp_path / found.picture)
    assert picture.white_balance == pytest.approx(reference.white_balance, rel=1e-4)
    assert np.allclose(picture.to_srgb, reference.to_srgb, atol=2e-3)
    assert picture.size == SIZE
    # Where the reference is in focus the picture is the reference.
    there = np.s_[20:-20, 10:60]
    assert np.abs(picture.rgb - bin_2x2(frames.read_camera_rgb(paths[REFERENCE]).rgb))[there].max() < 1e-3
    assert read_meta(tmp_path / found.picture).exposure.f_number == 2.8
    best_db = max(psnr_db(frames.read_camera_rgb(path).rgb, truth * np.array(NEUTRAL) * 0.9) for path in paths)
    fused = frames.read_camera_rgb(tmp_path / found.picture).rgb
    assert psnr_db(fused, truth * np.array(NEUTRAL) * 0.9, 24) > best_db + 3


def test_a_frame_that_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path) -> None:
    _, paths = write_stack(tmp_path)
    (tmp_path / "cut.png").write_bytes(paths[1].read_bytes()[:1000])
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((100, 100, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((*SIZE, 3), 90, np.uint8))
    found = fuse([*paths, *(tmp_path / f"{name}.png" for name in ("cut", "small", "flat"))], tmp_path)
    reasons = [frame.reason for frame in found.frames]
    assert reasons == [None, None, None, Reason.UNREADABLE, Reason.SIZE_MISMATCH, Reason.NO_TEXTURE]
    assert found.frames[3].share == found.frames[4].share == found.frames[5].share == 0


def test_frames_of_which_none_fits_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    _, paths = write_stack(tmp_path)
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(stack_files.UnfusableError, match="size_mismatch"):
        fuse([paths[0], tmp_path / "small.png"], tmp_path)
    assert not list(tmp_path.glob("all*"))


def test_one_frame_is_no_stack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 frames"):
        fuse(write_stack(tmp_path)[1][:1], tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real focal stacks are not here")
def test_a_real_stack_gets_sharper_than_its_sharpest_frame(tmp_path: Path) -> None:
    paths = sorted((DATA / "keyboard").iterdir())[::2]
    found = fuse(paths, tmp_path, stack_files.choose_reference(paths))
    assert [frame.reason for frame in found.frames] == [None] * 5
    detail = [
        stack_files.sharpness.relative_detail(frames.read_half(path).rgb) for path in (*paths, tmp_path / "all.png")
    ]
    assert detail[-1] > 1.3 * max(detail[:-1])
