"""Lens correction of a pair: map, box, flow and vignetting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import lensfunpy
import numpy as np
import pytest

from sdd_toolkit.calibration.lensfun_profile import distortion_map, vignetting_gain
from sdd_toolkit.calibration.undistortion import find_correction, undistort_box, undistort_flow
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.imaging.encoding import Encoding, decode, encode
from sdd_toolkit.imaging.resampling import sample
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.pair import pack_pair
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.raw.development import Demosaic, DevelopConfig, LensCorrection
from sdd_toolkit.records import FrameMeta, PairRecord
from sdd_toolkit.shards.index import Brightness, FailedPair, Warp
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import PackedPair
from tests.sdd_toolkit.calibration.test_lensfun_profile import META, WIDE, known
from tests.support.small_dataset import alignment, filtered_manifest, pair

SIZE = (400, 600)
LENSFUN = DevelopConfig(lens_correction=LensCorrection.LENSFUN)
IF_KNOWN = DevelopConfig(lens_correction=LensCorrection.LENSFUN_IF_KNOWN)
LINES_PX = np.arange(30.0, 600.0, 45.0)
TURNED = ((1.01, 0.003, 1.3), (-0.002, 0.995, 2.4), (0.0, 0.0, 1.0))
LINEAR16 = PackConfig(encoding=Encoding.LINEAR16, min_size_px=64)


def linear16(**values: object) -> PackConfig:
    return LINEAR16.model_copy(update=values)


def as_shot(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the straight frame has what lies at a point of the distorted one: lensfun's own inverse."""
    camera = lensfunpy.Database().find_cameras(META.make, META.model)[0]
    lens = lensfunpy.Database().find_lenses(camera, None, META.lens)[0]
    modifier = lensfunpy.Modifier(lens, camera.crop_factor, SIZE[1], SIZE[0])
    modifier.initialize(24.0, 8.0, 1000.0, flags=lensfunpy.ModifyFlags.DISTORTION, reverse=True)
    inverse = modifier.apply_geometry_distortion()
    points = sample(np.dstack([inverse, inverse[..., :1]]), x, y)
    return points[..., 0], points[..., 1]


def lines(x: np.ndarray) -> np.ndarray:
    """Upright bright lines, 3 px wide."""
    return 0.1 + 0.6 * np.exp(-((x[..., None] - LINES_PX) ** 2) / (2 * 3.0**2)).sum(axis=-1)


def distorted_pair(folder: Path, flow_px: tuple[float, float] = (0.0, 0.0)) -> tuple[PairRecord, Path, Path]:
    """Straight lines as the lens shows them; the blurred frame turned a little against it, and moved by a flow."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float64)
    (a, b, c), (d, e, f), _ = TURNED
    shown = {"sharp": (x, y), "blur": (a * x + b * y + c + flow_px[0], d * x + e * y + f + flow_px[1])}
    np.savez(folder / "w.npz", flow=np.broadcast_to(np.float16(flow_px), (100, 150, 2)))
    for name, (at_x, at_y) in shown.items():
        picture = np.repeat(lines(as_shot(at_x, at_y)[0])[..., None], 3, axis=-1)
        assert cv2.imwrite(str(folder / f"{name}.png"), encode(picture.astype(np.float32), Encoding.SRGB16))
    found = alignment(TURNED, size=SIZE, box=(12, 12, 588, 388), flow_file="w.npz")
    record = replace(pair(folder, "p", "s", seed=0, found=found), blur_meta=META, sharp_meta=META)
    return record, folder / "blur.png", folder / "sharp.png"


def good(result: PackedPair | FailedPair) -> PackedPair:
    assert isinstance(result, PackedPair), result
    return result


def bend_px(codes: np.ndarray, left: int, step: float) -> float:
    """How far the lines of a packed frame are from where the scene has them, at most; `step` full pixels a pixel."""
    light = decode(codes, Encoding.LINEAR16)[..., 1].astype(np.float64)
    x = (np.arange(light.shape[1]) + left) * step + (step - 1) / 2
    worst = 0.0
    for line in LINES_PX[(x[0] + 20 < LINES_PX) & (x[-1] - 20 > LINES_PX)]:
        near = np.abs(x - line) < 14
        weight = light[:, near] - 0.1
        worst = max(worst, float(np.abs((weight * x[near]).sum(axis=1) / weight.sum(axis=1) - line).max()))
    return worst


@pytest.mark.parametrize("demosaic", [Demosaic.AHD, Demosaic.HALF])
def test_lines_the_lens_bent_are_straight_again_in_both_frames(tmp_path: Path, demosaic: Demosaic) -> None:
    record, *paths = distorted_pair(tmp_path)
    develop = DevelopConfig(demosaic=demosaic, lens_correction=LensCorrection.LENSFUN)
    flat = replace(record, blur_meta=replace(META, exposure=replace(WIDE, f_number=None)))
    result = good(pack_pair(flat, *paths, tmp_path, LINEAR16, develop=develop))
    bent = good(pack_pair(flat, *paths, tmp_path, LINEAR16, develop=DevelopConfig(demosaic=demosaic)))
    assert result.box is not None
    assert bent.box is not None
    step = float(develop.reduction)
    assert bend_px(bent.sharp, bent.box[0], step) > 2
    assert bend_px(result.sharp, result.box[0], step) < 0.1
    assert bend_px(result.blur, result.box[0], step) < 0.1
    assert result.valid.all()
    assert min(result.valid.shape) > 340 / step
    assert result.development is not None
    assert result.development.lens == "Canon Canon EF 24-105mm f/4L IS USM"


def test_the_flow_is_applied_and_stored_on_the_straightened_grid(tmp_path: Path) -> None:
    record, *paths = distorted_pair(tmp_path, flow_px=(3.0, -2.0))
    record = replace(record, blur_meta=replace(META, exposure=replace(WIDE, f_number=None)))
    plain, flowed = (
        good(pack_pair(record, *paths, tmp_path, linear16(warp=warp_by), develop=LENSFUN))
        for warp_by in (Warp.HOMOGRAPHY, Warp.HOMOGRAPHY_FLOW)
    )
    assert plain.box is not None
    assert flowed.box is not None
    assert bend_px(plain.blur, plain.box[0], 1.0) > 2.5
    assert bend_px(flowed.blur, flowed.box[0], 1.0) < 0.1
    assert not flowed.flow.any()
    # In the middle the lens shrinks by 3 %: the step is that much shorter where nothing is bent.
    middle = plain.flow[plain.flow.shape[0] // 2, plain.flow.shape[1] // 2]
    np.testing.assert_allclose(middle, np.array([3.0, -2.0]) / 1.032, atol=0.02)


def vignetted_pair(folder: Path) -> tuple[PairRecord, Path, Path]:
    """Flat fields of 0.5 as the lens shows them: the blurred one at f/4, the sharp one at f/11."""
    metas = {}
    for name, f_number in (("blur", 4.0), ("sharp", 11.0)):
        metas[name] = replace(META, exposure=replace(WIDE, f_number=f_number))
        gain = vignetting_gain(known(), metas[name].exposure, SIZE)
        assert gain is not None
        picture = np.repeat((0.5 / gain)[..., None], 3, axis=-1).astype(np.float32)
        assert cv2.imwrite(str(folder / f"{name}.png"), encode(picture, Encoding.SRGB16))
    found = alignment(size=SIZE, box=(0, 0, 600, 400))
    record = pair(folder, "p", "s", seed=0, found=found)
    return (
        replace(record, blur_meta=metas["blur"], sharp_meta=metas["sharp"]),
        folder / "blur.png",
        folder / "sharp.png",
    )


def test_vignetted_flat_fields_are_flat_again_each_by_its_own_opening(tmp_path: Path) -> None:
    record, *paths = vignetted_pair(tmp_path)
    result = good(pack_pair(record, *paths, tmp_path, LINEAR16, develop=LENSFUN))
    for codes in (result.blur, result.sharp):
        np.testing.assert_allclose(decode(codes, Encoding.LINEAR16), 0.5, rtol=0.005)
    assert result.development is not None
    assert (result.development.blur.vignetting_by, result.development.sharp.vignetting_by) == (4.0, 11.0)


def test_a_measured_falloff_is_not_corrected_twice(tmp_path: Path) -> None:
    record, _, sharp = vignetted_pair(tmp_path)
    # What alignment would measure between two frames at f/11: nothing. Both get the sharp frame's correction.
    result = good(pack_pair(record, sharp, sharp, tmp_path, linear16(brightness=Brightness.FULL), develop=LENSFUN))
    np.testing.assert_allclose(decode(result.blur, Encoding.LINEAR16), 0.5, rtol=0.005)
    assert result.development is not None
    assert result.development.blur.vignetting_by == 11.0


def test_an_unknown_lens_is_an_error_or_left_alone_as_configured(tmp_path: Path) -> None:
    record, *paths = vignetted_pair(tmp_path)
    unknown = replace(record, sharp_meta=replace(META, lens="Jam jar 50mm"))
    with pytest.raises(RawError, match="lens is not in the database"):
        find_correction(unknown, SIZE, LENSFUN)
    assert find_correction(unknown, SIZE, IF_KNOWN) is None
    plain, kept = (
        good(pack_pair(unknown, *paths, tmp_path, PackConfig(encoding=Encoding.SRGB8, min_size_px=64), develop=each))
        for each in (DevelopConfig(), IF_KNOWN)
    )
    np.testing.assert_array_equal(kept.blur, plain.blur)
    assert kept.development is not None
    assert kept.development.lens is None


def test_packing_stops_early_and_names_the_lenses_it_does_not_know(tmp_path: Path) -> None:
    source = filtered_manifest(tmp_path, scenes=2, pairs=1)
    with pytest.raises(InputError, match="Pentacon Six, 80 mm"):
        pack_dataset(source, tmp_path / "shards", PackConfig(patch_size=128), develop=LENSFUN)
    assert not (tmp_path / "shards").exists()


def test_the_index_and_every_pair_say_what_was_corrected(tmp_path: Path) -> None:
    source = read_manifest(filtered_manifest(tmp_path, scenes=2, pairs=1))
    meta: FrameMeta = replace(META, size=(312, 420))
    records = (replace(source.records[0], blur_meta=meta, sharp_meta=meta), source.records[1])
    write_manifest(tmp_path / "filtered.jsonl", replace(source, records=records))
    pack_dataset(tmp_path / "filtered.jsonl", tmp_path / "shards", PackConfig(patch_size=128), develop=IF_KNOWN)
    with ShardReader(tmp_path / "shards") as reader:
        assert reader.index.lens_correction is LensCorrection.LENSFUN_IF_KNOWN
        told = [pair.development.lens for pair in map(reader.read, sorted(reader.pair_ids)) if pair.development]
    assert told == ["Canon Canon EF 24-105mm f/4L IS USM", None]


def test_a_flow_is_as_much_longer_as_the_straightened_frame_is_larger() -> None:
    y, x = np.mgrid[0:200, 0:400].astype(np.float32)
    places = np.stack([0.8 * x + 20, 0.5 * y + 30], axis=-1)
    flow = np.broadcast_to(np.array([2.0, -1.0], np.float32), (60, 120, 2)).copy()
    np.testing.assert_allclose(undistort_flow(flow, places), np.broadcast_to((2.5, -2.0), (50, 100, 2)), atol=1e-4)


def test_the_box_shows_the_inside_of_the_aligned_one_only() -> None:
    places = distortion_map(known(), SIZE)
    left, top, right, bottom = undistort_box((20, 16, 580, 380), places)
    assert all(edge % 4 == 0 for edge in (left, top, right, bottom))
    x, y = places[top:bottom, left:right, 0], places[top:bottom, left:right, 1]
    assert (x.min() >= 20, x.max() <= 579, y.min() >= 16, y.max() <= 379) == (True,) * 4
    assert right - left > 540
