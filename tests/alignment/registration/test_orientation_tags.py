"""Two frames of one body with different orientation tags, from a folder or a manifest to the packed pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignment.config import AlignConfig
from alignment.registration.photograph_pair import align_photographs
from alignment.registration.stage import align_pair
from alignment.transforms.apply import ApplyOptions, apply_to_files
from alignment.transforms.transform import from_pair, read_transform, write_transform
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.reading import develop_frame, read_half
from sdd_toolkit.imaging.orientation import turn_image
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.orientation import turn_of_blurred
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.pair import pack_pair
from sdd_toolkit.pipeline.stage_runner import Job
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.quality.stage import measure_and_judge
from sdd_toolkit.records import FileRef, PairKind, PairRecord, Reason
from sdd_toolkit.shards.schema import PackedPair
from sdd_toolkit.storage.files import sha256_of
from tests.support.dng_files import write_dng
from tests.support.planted_motion import blur_exactly, dead_leaves

CONFIG = AlignConfig(working_megapixels=0.2)


def shoot(folder: Path, name: str, orientation: int, blur_px: float = 0.0) -> Path:
    """A DNG of one scene; the sensor sees the same whatever the tag says."""
    folder.mkdir(exist_ok=True)
    scene = blur_exactly(dead_leaves(7, (320, 480)), blur_px)
    return write_dng(folder / name, scene * 0.7, orientation=orientation)


def record_of(blur: Path, sharp: Path) -> PairRecord:
    refs = [FileRef(path.name, path.stat().st_size, sha256_of(path)) for path in (blur, sharp)]
    metas = read_meta(blur), read_meta(sharp)
    return PairRecord("pair", "pair", PairKind.FOCUS, *refs, *metas, blur_turn=turn_of_blurred(*metas))


@pytest.mark.parametrize(("blur_tag", "sharp_tag"), [(1, 6), (6, 1), (1, 3), (8, 6), (2, 1)])
def test_a_frame_is_read_as_the_sensor_saw_it_by_every_reader(tmp_path: Path, blur_tag: int, sharp_tag: int) -> None:
    tagged, plain = shoot(tmp_path, "blur.dng", blur_tag), shoot(tmp_path, "sharp.dng", sharp_tag)
    turn = turn_of_blurred(read_meta(tagged), read_meta(plain))
    half, expected = read_half(tagged, turn=turn), read_half(plain)
    assert half.size == expected.size
    assert np.array_equal(half.rgb, expected.rgb)
    assert np.array_equal(half.clipped, expected.clipped)
    assert np.abs(develop_frame(tagged, turn=turn).linear - develop_frame(plain).linear).mean() < 1e-3


@pytest.mark.parametrize(("blur_tag", "sharp_tag"), [(1, 6), (1, 3)])
def test_a_pair_with_different_tags_is_aligned_measured_and_packed(
    tmp_path: Path, blur_tag: int, sharp_tag: int
) -> None:
    record = record_of(shoot(tmp_path, "blur.dng", blur_tag, 2.5), shoot(tmp_path, "sharp.dng", sharp_tag))
    aligned = align_pair(Job(record, tmp_path, tmp_path, CONFIG))
    assert aligned.verdict is None
    assert aligned.alignment is not None
    assert np.allclose(aligned.alignment.homography, np.eye(3), atol=0.05)
    judged = measure_and_judge(Job(aligned, tmp_path, tmp_path, FilterConfig()))
    assert judged.quality == aligned.quality
    assert judged.verdict is not None
    assert judged.verdict.keep, judged.verdict
    packed = pack_pair(
        judged, tmp_path / "blur.dng", tmp_path / "sharp.dng", tmp_path, PackConfig(patch_size=64, min_size_px=64)
    )
    assert isinstance(packed, PackedPair)
    soft, crisp = (cv2.GaussianBlur(codes.astype(np.float32), (0, 0), 6) for codes in (packed.blur, packed.sharp))
    assert np.corrcoef(soft.ravel(), crisp.ravel())[0, 1] > 0.98


def test_two_photographs_are_aligned_and_the_transform_turns_other_files(tmp_path: Path) -> None:
    blur, sharp = shoot(tmp_path / "raw", "blur.dng", 1, 2.5), shoot(tmp_path / "raw", "sharp.dng", 6)
    _, transform = align_photographs(blur, sharp, tmp_path / "out", CONFIG)
    assert (transform.turn, transform.size) == (6, (480, 320))
    assert read_transform(tmp_path / "out/blur.json") == transform
    picture = read_image(tmp_path / "out/blur_aligned.tif")
    assert picture.shape == (480, 320, 3)
    report, failures = apply_to_files(
        transform, [picture_file(tmp_path)], tmp_path / "there", options=ApplyOptions(nearest=True)
    )
    assert (report.done, failures) == (1, ())
    there = read_image(tmp_path / "there/map_aligned.png")
    assert there.shape[:2] == (480, 320)
    assert np.abs(there.astype(int) - turn_image(read_image(tmp_path / "map.png"), 6))[20:-20, 20:-20].mean() < 3
    options = ApplyOptions(inverse=True, nearest=True)
    apply_to_files(transform, [tmp_path / "there/map_aligned.png"], tmp_path / "back", options=options)
    back = read_image(tmp_path / "back/map_aligned_aligned.png")
    assert np.abs(back.astype(int) - read_image(tmp_path / "map.png"))[20:-20, 20:-20].mean() < 3


def picture_file(folder: Path) -> Path:
    ys, xs = np.mgrid[0:320, 0:480]
    cv2.imwrite(str(folder / "map.png"), np.stack([ys / 2, xs / 2, xs * 0], axis=-1).astype(np.uint8))
    return folder / "map.png"


def test_a_transform_without_a_turn_is_written_as_before(tmp_path: Path) -> None:
    record = record_of(shoot(tmp_path, "blur.dng", 1, 2.5), shoot(tmp_path, "sharp.dng", 1))
    aligned = align_pair(Job(record, tmp_path, tmp_path, CONFIG))
    write_transform(tmp_path / "plain.json", from_pair(aligned))
    assert '"turn"' not in (tmp_path / "plain.json").read_text()
    write_transform(tmp_path / "turned.json", replace(from_pair(aligned), turn=9))
    with pytest.raises(InputError, match="no EXIF orientation"):
        read_transform(tmp_path / "turned.json")


def test_frames_that_still_differ_in_size_name_their_tags(tmp_path: Path) -> None:
    blur, sharp = shoot(tmp_path, "blur.dng", 1), shoot(tmp_path, "sharp.dng", 6)
    record = replace(record_of(blur, sharp), blur_turn=1)
    rejected = align_pair(Job(record, tmp_path, tmp_path, CONFIG)).verdict
    assert rejected is not None
    assert rejected.reason is Reason.SIZE_MISMATCH
    assert "EXIF Orientation is 1 in the blurred frame, 6 in the sharp one" in rejected.detail
    other = write_dng(tmp_path / "other.dng", np.full((320, 480, 3), 0.5), extra=((272, "s", 0, "Camera Two", True),))
    with pytest.raises(InputError) as refused:
        align_photographs(other, sharp, tmp_path / "out", CONFIG)
    assert "EXIF Orientation is 1" in refused.value.hint
