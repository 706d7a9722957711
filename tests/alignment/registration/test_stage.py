"""The align stage: files in, files out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignment.config import AlignConfig
from alignment.registration.stage import align_pairs
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.imaging.geometry import rescale_homography
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.quality import stage as filter_stage
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, Reason
from sdd_toolkit.storage.files import sha256_of
from tests.support.planted_motion import plant_pair, write_at_double_size
from tests.support.planted_pairs import corner_error_px

CONFIG = AlignConfig(max_radius_px=6.0)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    records = []
    for name, seed in (("good", 30), ("swapped", 31), ("cut", 32), ("broken", 33)):
        pair = plant_pair(seed)
        sharp = plant_pair(99).sharp if name == "swapped" else pair.sharp[4:] if name == "cut" else pair.sharp
        blur, crisp = (
            write_at_double_size(folder / f"{name}_{kind}.png", frame)
            for kind, frame in (("b", pair.blur), ("s", sharp))
        )
        if name == "broken":
            (folder / "broken_b.png").write_bytes(b"no picture")
            blur = FileRef("broken_b.png", 10, sha256_of(folder / "broken_b.png"))
        records.append(PairRecord(name, name, PairKind.FOCUS, blur, crisp, FrameMeta(), FrameMeta()))
    manifest.write_manifest(folder / "ingested.jsonl", manifest.Manifest(root=folder, records=tuple(records)))
    align_pairs(folder / "ingested.jsonl", folder, CONFIG)
    return folder


@pytest.fixture
def source(shots: Path, tmp_path: Path) -> Path:
    """A copy of a folder that was ingested and aligned."""
    shutil.copytree(shots, tmp_path / "copy")
    return tmp_path / "copy" / "ingested.jsonl"


def test_every_pair_is_aligned_or_rejected_for_its_own_reason(source: Path) -> None:
    report = align_pairs(source, source.parent, CONFIG)
    assert (report.total, report.skipped) == (4, 4)
    assert report.rejected == {"different_scene": 1, "size_mismatch": 1, "unreadable": 1}
    by_id = {record.id: record for record in manifest.read_manifest(source.with_name("aligned.jsonl")).records}
    good = by_id["good"].alignment
    assert by_id["good"].verdict is None
    assert good is not None
    assert good.size == (640, 864)
    truth = rescale_homography(plant_pair(30).homography, 2.0)
    assert corner_error_px(good.homography, truth, good.size) < 0.2
    assert by_id["swapped"].alignment is not None
    assert by_id["swapped"].alignment.failure is Reason.DIFFERENT_SCENE
    assert by_id["broken"].verdict is not None
    assert "broken_b.png" in by_id["broken"].verdict.detail
    assert "/" not in by_id["broken"].verdict.detail
    assert by_id["cut"].verdict is not None
    assert by_id["cut"].verdict.detail == "864x640 and 864x632 px"


def test_the_flow_lies_beside_the_manifest_on_a_quarter_size_grid(source: Path) -> None:
    flows = sorted(path.name for path in (source.parent / "flow").iterdir())
    assert flows == ["good.npz"]
    with np.load(source.parent / "flow" / "good.npz") as content:
        flow, confidence = content["flow"], content["confidence"]
    assert (flow.shape, flow.dtype) == ((160, 216, 2), np.float16)
    assert (confidence.shape, confidence.dtype) == ((160, 216), np.uint8)
    assert float(np.median(np.linalg.norm(flow.astype(float), axis=2)[confidence > 128])) < 0.4


def test_a_lost_flow_is_made_again_with_the_same_bytes_and_nothing_else_is_touched(source: Path) -> None:
    flow, aligned = source.parent / "flow" / "good.npz", source.with_name("aligned.jsonl")
    before = flow.read_bytes(), aligned.read_bytes()
    flow.unlink()
    report = align_pairs(source, source.parent, CONFIG)
    assert (report.done, report.skipped) == (1, 3)
    assert (flow.read_bytes(), aligned.read_bytes()) == before


def test_the_bytes_do_not_depend_on_the_number_of_workers(source: Path) -> None:
    files = [source.with_name("aligned.jsonl"), source.parent / "flow" / "good.npz"]
    serial = [path.read_bytes() for path in files]
    assert align_pairs(source, source.parent, CONFIG, executor="local:2", overwrite=True).done == 4
    assert [path.read_bytes() for path in files] == serial


def test_a_file_that_changed_after_ingesting_is_not_aligned(source: Path) -> None:
    path = source.parent / "good_b.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    source.with_name("aligned.jsonl").unlink()
    assert align_pairs(source, source.parent, CONFIG).rejected["changed"] == 1


def painted(path: Path, size: tuple[int, int], black: slice) -> Path:
    mask = np.full(size, 255, np.uint8)
    mask[black] = 0
    path.parent.mkdir(exist_ok=True)
    write_values(path, mask)
    return path


def test_a_pair_is_aligned_again_when_its_mask_changes_and_no_other_one(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = source.parent / "masks"
    mask = painted(masks / "good.png", (640, 864), slice(0, 100))
    first = align_pairs(source, source.parent, CONFIG, masks=masks)
    assert (first.done, first.skipped) == (1, 3)
    assert "3 of 4 pairs have no mask" in caplog.text
    assert align_pairs(source, source.parent, CONFIG, masks=masks).done == 0
    painted(mask, (640, 864), slice(0, 200))
    assert align_pairs(source, source.parent, CONFIG, masks=masks).done == 1
    shutil.move(masks, source.parent / "moved")
    assert align_pairs(source, source.parent, CONFIG, masks=source.parent / "moved").done == 0
    assert align_pairs(source, source.parent, CONFIG).done == 1


def test_masked_pixels_play_no_part(source: Path) -> None:
    """The lower half of the blurred frame is of another scene: painted black, the upper half decides."""
    path = source.parent / "good_b.png"
    frame, other = (
        cv2.imread(str(source.parent / name), cv2.IMREAD_UNCHANGED) for name in (path.name, "swapped_s.png")
    )
    frame[320:] = other[320:]
    cv2.imwrite(str(path), frame)
    record = next(record for record in manifest.read_manifest(source).records if record.id == "good")
    mixed = replace(record, blur=FileRef(path.name, path.stat().st_size, sha256_of(path)))
    manifest.write_manifest(source, manifest.Manifest(source.parent, (mixed,)))
    mask = painted(source.parent / "mask.png", (640, 864), slice(300, 640))
    align_pairs(source, source.parent, CONFIG, masks=mask)
    (found,) = (record.alignment for record in manifest.read_manifest(source.with_name("aligned.jsonl")).records)
    assert found is not None
    assert found.failure is None
    assert corner_error_px(found.homography, rescale_homography(plant_pair(30).homography, 2.0), found.size) < 1.0


def test_a_mask_of_another_size_rejects_its_pair_and_names_no_absolute_path(source: Path) -> None:
    mask = painted(source.parent.parent / "masks" / "good.png", (100, 100), slice(0))
    align_pairs(source, source.parent, CONFIG, masks=mask.parent)
    by_id = {record.id: record for record in manifest.read_manifest(source.with_name("aligned.jsonl")).records}
    assert by_id["good"].verdict is not None
    assert by_id["good"].verdict.detail == "the mask good.png has 100x100 px, the frame 864x640 px"


def filtered(folder: Path, **options: bool) -> bytes:
    filter_stage.filter_pairs(folder / "aligned.jsonl", folder, FilterConfig(), **options)
    return (folder / "filtered.jsonl").read_bytes()


def without_measures(source: Path) -> None:
    """The manifest as versions before wrote it."""
    before = manifest.read_manifest(source.with_name("aligned.jsonl"))
    records = tuple(replace(record, quality=None, measured=None) for record in before.records)
    manifest.write_manifest(source.with_name("aligned.jsonl"), replace(before, records=records))


def facts(content: Path) -> list[tuple[object, ...]]:
    records = manifest.read_manifest(content / "filtered.jsonl").records
    return [(record.id, record.quality, record.verdict, record.measured) for record in records]


def test_the_filter_judges_what_was_measured_here_as_if_it_had_measured_it(source: Path) -> None:
    folder = source.parent
    first = filtered(folder)
    judged = facts(folder)
    assert [quality is not None for _, quality, _, _ in judged] == [False, True, True, True]
    assert filtered(folder, overwrite=True) == first
    without_measures(source)
    filtered(folder)
    assert facts(folder) == judged


def test_the_filter_opens_no_photograph_of_what_was_measured_here(source: Path) -> None:
    first = filtered(source.parent)
    (source.parent / "filtered.jsonl").unlink()
    for path in source.parent.glob("*.png"):
        path.unlink()
    assert filtered(source.parent) == first


def test_the_filter_measures_again_after_another_alignment(source: Path) -> None:
    folder = source.parent
    filtered(folder)
    before = facts(folder)
    aligned = manifest.read_manifest(folder / "aligned.jsonl")
    records = tuple(
        replace(one, alignment=one.alignment and replace(one.alignment, gain=2 * one.alignment.gain))
        for one in aligned.records
    )
    manifest.write_manifest(folder / "aligned.jsonl", replace(aligned, records=records))
    filtered(folder)
    changed = {new[0] for new, old in zip(facts(folder), before, strict=True) if new[1] != old[1]}
    assert changed == {"good"}
    (folder / "good_b.png").unlink()
    (folder / "filtered.jsonl").unlink()
    filtered(folder)
    assert {one[0]: one[2].reason for one in facts(folder)}["good"] is Reason.CHANGED


def test_real_frames_without_texture_are_rejected_as_such(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "raw" / "burst_rpi_imx296"
    blur, sharp = (
        FileRef(path.name, path.stat().st_size, sha256_of(path))
        for path in (folder / "image_0.dng", folder / "image_30.dng")
    )
    record = PairRecord("rpi", "rpi", PairKind.SEQUENCE, blur, sharp, FrameMeta(), FrameMeta())
    manifest.write_manifest(tmp_path / "ingested.jsonl", manifest.Manifest(root=folder, records=(record,)))
    assert align_pairs(tmp_path / "ingested.jsonl", tmp_path, CONFIG).rejected == {"no_texture": 1}
