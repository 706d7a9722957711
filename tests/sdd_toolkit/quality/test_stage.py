from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.calibration.hot_pixel_map import CameraPixels, HotPixelMap, camera_of
from sdd_toolkit.errors import ManifestError
from sdd_toolkit.pipeline.manifest import Manifest, read_manifest, write_manifest
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.quality.stage import filter_pairs, judge_from_record
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, Reason, Verdict
from sdd_toolkit.storage.files import sha256_of
from tests.support.planted_pairs import alignment

SIZE = (256, 384)
IDENTITY = replace(alignment((0.0, 0.0)), size=SIZE, box=(0, 0, SIZE[1], SIZE[0]))


def textured(seed: int = 0) -> np.ndarray:
    """Overlapping bricks of many sizes, light and dark."""
    rng = np.random.default_rng(seed)
    canvas = np.full((*SIZE, 3), 90, np.uint8)
    for side in np.sort(rng.integers(2, 40, 2500))[::-1].tolist():
        left, top = int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0]))
        cv2.rectangle(canvas, (left, top), (left + side, top + side // 2), rng.uniform(30, 220, 3).tolist(), -1)
    return canvas


def pair(folder: Path, name: str, blur: np.ndarray, sharp: np.ndarray, **more: object) -> PairRecord:
    refs = []
    for role, image in (("blur", blur), ("sharp", sharp)):
        path = folder / f"{name}_{role}.png"
        cv2.imwrite(str(path), image)
        refs.append(FileRef(path.name, path.stat().st_size, sha256_of(path)))
    made = PairRecord(name, name, PairKind.FOCUS, refs[0], refs[1], FrameMeta(), FrameMeta(), alignment=IDENTITY)
    return replace(made, **more)


def blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 3.0)


@pytest.fixture
def judged(tmp_path: Path) -> dict[str, PairRecord]:
    sharp = textured()
    cut_short = pair(tmp_path, "unreadable", blurred(sharp), sharp)
    path = tmp_path / "unreadable_sharp.png"
    path.write_bytes(path.read_bytes()[:2000])
    cut_short = replace(cut_short, sharp=FileRef(path.name, 2000, sha256_of(path)))
    changed = pair(tmp_path, "changed", blurred(sharp), sharp)
    cv2.imwrite(str(tmp_path / "changed_blur.png"), sharp)
    records = (
        pair(tmp_path, "good", blurred(sharp), sharp),
        pair(tmp_path, "black", blurred(sharp), np.zeros_like(sharp)),
        pair(tmp_path, "white", blurred(sharp), np.full_like(sharp, 255)),
        pair(tmp_path, "both", blurred(sharp), blurred(sharp) + np.uint8(1)),
        pair(tmp_path, "swapped", sharp, blurred(sharp)),
        pair(
            tmp_path, "lost", blurred(sharp), textured(1), alignment=replace(IDENTITY, failure=Reason.DIFFERENT_SCENE)
        ),
        pair(tmp_path, "died", sharp, sharp, alignment=None, verdict=Verdict(False, Reason.WORKER_DIED)),
        cut_short,
        changed,
    )
    write_manifest(tmp_path / "aligned.jsonl", Manifest(root=tmp_path, records=records))
    filter_pairs(tmp_path / "aligned.jsonl", tmp_path, FilterConfig())
    return {record.id: record for record in read_manifest(tmp_path / "filtered.jsonl").records}


def test_every_pair_is_judged_and_none_is_lost(judged: dict[str, PairRecord]) -> None:
    verdicts = {name: record.verdict.reason for name, record in judged.items() if record.verdict}
    assert verdicts == {
        "good": None,
        "black": Reason.BLACK_FRAME,
        "white": Reason.CLIPPED,
        "both": Reason.BOTH_BLURRED,
        "swapped": Reason.NOT_SHARPER,
        "lost": Reason.DIFFERENT_SCENE,
        "died": Reason.WORKER_DIED,
        "unreadable": Reason.UNREADABLE,
        "changed": Reason.CHANGED,
    }


def test_a_kept_pair_carries_its_measures_and_its_provenance(judged: dict[str, PairRecord]) -> None:
    good = judged["good"]
    assert good.quality is not None
    assert good.quality.sharpness_gain > 2.0
    assert [step.stage for step in good.history] == ["filter"]


def test_a_second_run_does_nothing_and_a_new_threshold_does_everything(tmp_path: Path) -> None:
    sharp = textured()
    records = tuple(pair(tmp_path, name, blurred(sharp), sharp) for name in ("a", "b"))
    source = tmp_path / "aligned.jsonl"
    write_manifest(source, Manifest(root=tmp_path, records=records))
    assert filter_pairs(source, tmp_path, FilterConfig()).done == 2
    assert filter_pairs(source, tmp_path, FilterConfig()).skipped == 2
    strict = filter_pairs(source, tmp_path, FilterConfig(min_sharpness_gain=50.0))
    assert (strict.done, strict.skipped, strict.rejected) == (2, 0, {Reason.NOT_SHARPER: 2})


def test_other_thresholds_judge_stored_measurements_without_opening_a_photograph(
    judged: dict[str, PairRecord], tmp_path: Path
) -> None:
    strict = FilterConfig(min_sharpness_gain=1000.0)
    filter_pairs(tmp_path / "aligned.jsonl", tmp_path / "anew", strict)
    for path in tmp_path.glob("*.png"):
        if not path.name.startswith(("unreadable", "changed")):
            path.unlink()
    report = filter_pairs(tmp_path / "aligned.jsonl", tmp_path, strict)
    assert (report.done, report.skipped) == (9, 0)
    assert (
        read_manifest(tmp_path / "filtered.jsonl").records
        == read_manifest(tmp_path / "anew" / "filtered.jsonl").records
    )
    assert judged["good"].verdict == Verdict(keep=True)
    good = {record.id: record for record in read_manifest(tmp_path / "filtered.jsonl").records}["good"]
    assert good.verdict is not None
    assert good.verdict.reason is Reason.NOT_SHARPER


def test_another_alignment_is_measured_again(judged: dict[str, PairRecord], tmp_path: Path) -> None:
    source = read_manifest(tmp_path / "aligned.jsonl")
    shifted = tuple(replace(one, alignment=replace(IDENTITY, gain=2.0)) for one in source.records if one.id == "good")
    write_manifest(tmp_path / "aligned.jsonl", replace(source, records=shifted))
    filter_pairs(tmp_path / "aligned.jsonl", tmp_path, FilterConfig(max_exposure_ev=0.5))
    (good,) = read_manifest(tmp_path / "filtered.jsonl").records
    assert good.quality != judged["good"].quality


def test_measures_count_only_for_the_files_alignment_and_hot_pixels_that_they_are_of(
    judged: dict[str, PairRecord],
) -> None:
    good = judged["good"]
    config, clean = FilterConfig(min_sharpness_gain=1000.0), HotPixelMap()
    rejudged = judge_from_record(good, config, clean)
    assert rejudged is not None
    assert rejudged.quality == good.quality
    assert rejudged.verdict is not None
    assert rejudged.verdict.reason is Reason.NOT_SHARPER
    meta = FrameMeta(model="C", size=SIZE)
    hot = HotPixelMap((CameraPixels(camera_of(meta), SIZE, 3, ((1, 2),)),))
    others = (
        (replace(good, sharp=replace(good.sharp, sha256="0" * 64)), clean),
        (replace(good, alignment=replace(IDENTITY, gain=2.0)), clean),
        (replace(good, measured=None), clean),
        (replace(good, quality=None), clean),
        (replace(good, blur_meta=meta), hot),
    )
    assert judge_from_record(replace(good, blur_meta=meta), config, clean) is not None
    assert [judge_from_record(record, config, pixels) for record, pixels in others] == [None] * 5
    assert judge_from_record(judged["died"], config, hot) == judged["died"]


def test_pairs_that_were_never_aligned_are_refused(tmp_path: Path) -> None:
    sharp = textured()
    unaligned = pair(tmp_path, "a", blurred(sharp), sharp, alignment=None)
    write_manifest(tmp_path / "ingested.jsonl", Manifest(tmp_path, (unaligned,)))
    with pytest.raises(ManifestError, match="the pair 'a' was never aligned") as refused:
        filter_pairs(tmp_path / "ingested.jsonl", tmp_path, FilterConfig())
    assert refused.value.hint == "run `sdd align` first"
    assert not (tmp_path / "filtered.jsonl").exists()
    rejected = replace(unaligned, verdict=Verdict(keep=False, reason=Reason.SIZE_MISMATCH))
    write_manifest(tmp_path / "aligned.jsonl", Manifest(tmp_path, (rejected,)))
    assert filter_pairs(tmp_path / "aligned.jsonl", tmp_path, FilterConfig()).rejected == {"size_mismatch": 1}
