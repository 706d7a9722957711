"""Stage `sdd hotpixels` and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignment.config import AlignConfig
from alignment.registration.stage import align_pairs as align
from capture.config import IngestConfig
from capture.ingest.stage import ingest_photographs as ingest
from capture.virtual.config import SimulateConfig
from capture.virtual.stage import Series
from capture.virtual.stage import simulate_pairs as shoot
from sdd_toolkit.calibration.hot_pixel_map import (
    OUTPUT,
    HotPixelMap,
    find_hot_pixels,
    load_for_manifest,
    read_hot_pixels,
)
from sdd_toolkit.errors import InputError
from sdd_toolkit.frames.reading import read_half, read_mosaic
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.quality.stage import filter_pairs as filter_
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.records import FrameMeta
from sdd_toolkit.shards.reader import ShardReader

CAMERA = SimulateConfig(width=480, height=320, pixel_pitch_um=75.0)
CONFIG = PackConfig(patch_size=64, min_size_px=64)


def spots(count: int = 60) -> np.ndarray:
    flat = np.random.default_rng(3).choice(480 * 320, count, replace=False)
    return np.stack([flat // 480, flat % 480], axis=1)


def spoil(path: Path, places: np.ndarray) -> None:
    """Makes half of the places hot and half of them dead in a virtual camera's DNG, whose mosaic lies in one strip."""
    mosaic = read_mosaic(path)
    assert mosaic is not None
    content = path.read_bytes()
    start = content.index(mosaic.samples.astype("<u2").tobytes())
    spoilt = mosaic.samples.copy()
    hot, dead = places[::2], places[1::2]
    lit = spoilt[hot[:, 0], hot[:, 1]].astype(int) + 4000
    spoilt[hot[:, 0], hot[:, 1]] = np.minimum(lit, 16383)
    spoilt[dead[:, 0], dead[:, 1]] = 0
    path.write_bytes(content[:start] + spoilt.astype("<u2").tobytes() + content[start + spoilt.nbytes :])


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes of a sensor with 60 defects, ingested and its defects found; and the same without, beside it."""
    folder = tmp_path_factory.mktemp("session")
    for name in ("clean", "spoilt"):
        shoot(folder / name / "raw", CAMERA, Series(scenes=5, seed=5))
        if name == "spoilt":
            for path in (folder / name / "raw").rglob("*.dng"):
                spoil(path, spots())
        ingest([folder / name / "raw"], folder / name, IngestConfig())
        find_hot_pixels(folder / name / "ingested.jsonl", folder / name)
    return folder


def first(folder: Path) -> manifest.PairRecord:
    return manifest.read_manifest(folder / "ingested.jsonl").records[0]


def test_planted_defects_are_found_and_a_clean_sensor_has_none(session: Path) -> None:
    planted = {tuple(place) for place in spots().tolist()}
    (camera,) = read_hot_pixels(session / "spoilt" / OUTPUT).cameras
    assert (camera.size, camera.scenes) == ((320, 480), 5)
    assert len(set(camera.pixels) & planted) >= 59
    assert set(camera.pixels) <= planted
    assert [entry.pixels for entry in read_hot_pixels(session / "clean" / OUTPUT).cameras] == [()]


def test_a_repaired_frame_is_the_clean_one_within_the_noise(session: Path) -> None:
    record, root = first(session / "spoilt"), session / "spoilt" / "raw"
    places = read_hot_pixels(session / "spoilt" / OUTPUT).of(record.blur_meta)
    clean = read_half(session / "clean" / "raw" / record.blur.path).rgb
    left, mended = (np.abs(read_half(root / record.blur.path, each).rgb - clean) for each in (None, places))
    assert left.max() > 0.1
    assert mended.max() < 0.03
    assert np.count_nonzero(mended.max(axis=-1)) <= 60
    assert np.percentile(mended.max(axis=-1)[mended.max(axis=-1) > 0], [50, 90]) == pytest.approx([0, 0], abs=0.012)


def test_align_filter_and_pack_use_the_map_and_pack_notes_how_many(session: Path, tmp_path: Path) -> None:
    folder = session / "spoilt"
    align(folder / "ingested.jsonl", tmp_path / "a", AlignConfig())
    filter_(tmp_path / "a" / "aligned.jsonl", tmp_path / "a", FilterConfig())
    pack(tmp_path / "a" / "filtered.jsonl", tmp_path / "shards", CONFIG)
    assert (tmp_path / "a" / OUTPUT).read_bytes() == (folder / OUTPUT).read_bytes()
    with ShardReader(tmp_path / "shards") as reader:
        (found,) = {
            (told.development.blur.repaired, told.development.sharp.repaired)
            for told in map(reader.read, reader.pair_ids)
            if told.development is not None
        }
    assert found == (len(read_hot_pixels(folder / OUTPUT).cameras[0].pixels),) * 2


def test_registration_forgets_what_sits_on_the_sensor(session: Path, tmp_path: Path) -> None:
    for name in ("clean", "spoilt"):
        align(session / name / "ingested.jsonl", tmp_path / name, AlignConfig())
    clean, mended = (
        np.array(
            [r.alignment.rows for r in manifest.read_manifest(tmp_path / name / "aligned.jsonl").records if r.alignment]
        )
        for name in ("clean", "spoilt")
    )
    np.testing.assert_allclose(mended[:, :2, 2], clean[:, :2, 2], atol=0.05)


def test_a_new_map_redoes_its_pairs_and_an_equal_one_none(session: Path, tmp_path: Path) -> None:
    record = first(session / "spoilt")
    held = read_hot_pixels(session / "spoilt" / OUTPUT)
    other = HotPixelMap((replace(held.cameras[0], pixels=((1, 2),)),))
    assert held.inputs(record) == read_hot_pixels(session / "spoilt" / OUTPUT).inputs(record) != other.inputs(record)
    assert HotPixelMap().inputs(record) == {}
    config = DevelopConfig(hot_pixels=False)
    assert load_for_manifest(session / "spoilt" / "ingested.jsonl", config) == HotPixelMap()


def test_another_camera_or_size_is_not_repaired(session: Path) -> None:
    held, meta = read_hot_pixels(session / "spoilt" / OUTPUT), first(session / "spoilt").blur_meta
    assert held.of(meta) is not None
    assert held.of(replace(meta, model="Another")) is None
    assert held.of(replace(meta, serial="another body")) is None
    assert held.of(replace(meta, size=(100, 100))) is None
    assert held.of(FrameMeta()) is None


def test_too_few_scenes_find_nothing_and_say_so(
    session: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = manifest.read_manifest(session / "spoilt" / "ingested.jsonl")
    manifest.write_manifest(tmp_path / "m.jsonl", replace(source, records=source.records[:2]))
    report = find_hot_pixels(tmp_path / "m.jsonl", tmp_path)
    assert "2 scenes of a mosaic, 3 are needed" in caplog.text
    assert read_hot_pixels(tmp_path / OUTPUT).cameras[0].pixels == ()
    assert (report.done, report.total) == (1, 1)


def test_a_second_run_looks_at_nothing_and_writes_the_same_bytes(session: Path, tmp_path: Path) -> None:
    source = session / "spoilt" / "ingested.jsonl"
    find_hot_pixels(source, tmp_path, executor="local:2")
    before = (tmp_path / OUTPUT).read_bytes()
    assert (find_hot_pixels(source, tmp_path).skipped, find_hot_pixels(source, tmp_path, overwrite=True).done) == (1, 1)
    assert (tmp_path / OUTPUT).read_bytes() == before == (session / "spoilt" / OUTPUT).read_bytes()


def test_a_file_that_cannot_be_read_is_left_out(session: Path, tmp_path: Path) -> None:
    source = manifest.read_manifest(session / "spoilt" / "ingested.jsonl")
    gone = replace(source.records[0], blur=replace(source.records[0].blur, path="gone.dng"))
    manifest.write_manifest(tmp_path / "m.jsonl", replace(source, records=(gone, *source.records[1:])))
    find_hot_pixels(tmp_path / "m.jsonl", tmp_path)
    assert read_hot_pixels(tmp_path / OUTPUT).cameras[0].scenes == 4


@pytest.mark.parametrize("text", ["", "[]", '{"format": "sdd-hot-pixels", "version": 2, "cameras": []}'])
def test_a_damaged_map_stops_the_stages_that_need_it(tmp_path: Path, text: str) -> None:
    (tmp_path / OUTPUT).write_text(text)
    with pytest.raises(InputError, match=r"hot_pixels\.json"):
        load_for_manifest(tmp_path / "ingested.jsonl", DevelopConfig())
    (tmp_path / OUTPUT).write_text(json.dumps({"format": "sdd-hot-pixels", "version": 1, "cameras": []}))
    assert load_for_manifest(tmp_path / "ingested.jsonl", DevelopConfig()) == HotPixelMap()


def test_cameras_without_a_mosaic_get_no_warning(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """JPEGs are not opened at all, RAW files without a mosaic are looked at in silence."""
    record = first(session / "clean")
    for name in ("photo.jpg", "photo.dng"):
        (tmp_path / name).write_bytes((session / "clean" / "raw" / record.blur.path).read_bytes())
    totals, warnings = [], []
    for name, mosaic in (("photo.dng", True), ("photo.dng", False), ("photo.jpg", True)):
        pair = replace(record, blur=replace(record.blur, path=name))
        manifest.write_manifest(tmp_path / "ingested.jsonl", manifest.Manifest(tmp_path, (pair,)))
        if not mosaic:
            monkeypatch.setattr("sdd_toolkit.calibration.hot_pixel_map.read_mosaic", lambda path: None)
        totals.append(find_hot_pixels(tmp_path / "ingested.jsonl", tmp_path, overwrite=True).total)
        warnings.append("scenes of a mosaic" in caplog.text)
        caplog.clear()
    assert totals == [1, 1, 0]
    assert warnings == [True, False, False]
