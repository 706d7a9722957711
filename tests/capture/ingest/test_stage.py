from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from capture.config import IngestConfig
from capture.ingest.last_run import LAST_RUN_FILE
from capture.ingest.stage import find_pairs, ingest_photographs
from capture.inspection.inspection_cache import CACHE_FILE
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.formats.colour import ImageColour
from sdd_toolkit.formats.icc import encode_icc
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.colour_profile import SRGB_CURVE, ColourProfile, colorants_of
from sdd_toolkit.pipeline.manifest import Manifest, read_manifest
from tests.support.dead_leaves import leaves_picture
from tests.support.dng_files import scene_rgb, write_dng


def shot(path: Path, level: float = 1.0, **exif: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_dng(path, scene_rgb(40, 60) * level, exif=exif or None)


def picture(path: Path, grain: int, seed: int = 0) -> Path:
    """Noise of a coarser or finer grain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(60, 200, (192 // grain, 192 // grain, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (192, 192), interpolation=cv2.INTER_CUBIC))
    return path


def rejected(out: Path) -> dict[str, str]:
    with (out / "rejected_files.csv").open(encoding="utf-8", newline="") as stream:
        return {row["path"]: row["reason"] for row in csv.DictReader(stream)}


def pairs(manifest: Manifest) -> dict[str, tuple[str, str]]:
    return {record.id: (record.blur.path, record.sharp.path) for record in manifest.records}


def test_a_folder_of_scenes_becomes_pairs_and_every_other_file_has_its_reason(tmp_path: Path) -> None:
    raw, out = tmp_path / "rohe Bilder é", tmp_path / "out"
    shot(raw / "Scene 1/blur.dng", f_number=1.8, shutter_s=0.01, iso=200)
    shot(raw / "Scene 1/sharp.dng", 0.9, f_number=1.8, shutter_s=0.01, iso=200)
    whole = shot(raw / "場景/a_blur.dng", 0.5)
    shot(raw / "場景/a_sharp.dng", 0.6)
    shutil.copy(whole, raw / "場景/copy.dng")
    (raw / "Scene 1/cut.dng").write_bytes(whole.read_bytes()[:3000])
    (raw / "Scene 1/truth.npz").write_bytes(b"x")
    report = ingest_photographs([raw], out, IngestConfig())
    manifest = read_manifest(out / "ingested.jsonl")
    assert pairs(manifest) == {
        "a": ("場景/a_blur.dng", "場景/a_sharp.dng"),
        "scene-1": ("Scene 1/blur.dng", "Scene 1/sharp.dng"),
    }
    assert manifest.locate(manifest.records[0].sharp) == raw / "場景/a_sharp.dng"
    assert manifest.records[1].blur_meta.exposure.shutter_s == 0.01
    assert manifest.records[1].blur_meta.size == (40, 60)
    assert rejected(out) == {
        "Scene 1/cut.dng": "unreadable",
        "Scene 1/truth.npz": "unsupported",
        "場景/copy.dng": "duplicate",
    }
    assert (report.total, report.done, report.skipped) == (7, 7, 0)


def test_the_frame_of_a_stack_with_the_finest_grain_is_the_sharp_one(tmp_path: Path) -> None:
    for step, grain in enumerate((16, 4, 8)):
        picture(tmp_path / f"stack/step{step}.png", grain)
    ingest_photographs([tmp_path / "stack"], tmp_path / "out", IngestConfig())
    assert pairs(read_manifest(tmp_path / "out/ingested.jsonl")) == {
        "step": ("step0.png", "step1.png"),
        "step-2": ("step2.png", "step1.png"),
    }


def test_aperture_pairs_by_exif_and_an_unmatched_exposure_is_reported(tmp_path: Path) -> None:
    times = {"taken_at": "2026:05:01 10:00:00", "iso": 100}
    shot(tmp_path / "raw/1.dng", f_number=16.0, shutter_s=0.64, **times)
    shot(tmp_path / "raw/2.dng", 0.9, f_number=2.0, shutter_s=0.01, **times)
    late = {"taken_at": "2026:05:01 11:00:00", "iso": 100}
    shot(tmp_path / "raw/3.dng", 0.8, f_number=2.0, shutter_s=0.01, **late)
    shot(tmp_path / "raw/4.dng", 0.1, f_number=16.0, shutter_s=0.01, **late)
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig(pairing="aperture"))
    assert pairs(read_manifest(tmp_path / "out/ingested.jsonl")) == {"1": ("2.dng", "1.dng")}
    assert rejected(tmp_path / "out") == {"3.dng": "exposure_unmatched", "4.dng": "exposure_unmatched"}


def test_a_copy_of_another_scenes_frame_costs_neither_scene_its_pair(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number in (1, 2):
        shot(raw / f"scene-{number}/blur.dng", number / 4)
        shot(raw / f"scene-{number}/sharp.dng", number / 4 + 0.1)
    shutil.copy(raw / "scene-2/sharp.dng", raw / "scene-1/sharp.dng")
    shutil.copytree(raw / "scene-2", raw / "scene-3")
    shutil.copy(raw / "scene-1/blur.dng", raw / "scene-2/stray.dng")
    ingest_photographs([raw], out, IngestConfig())
    assert pairs(read_manifest(out / "ingested.jsonl")) == {
        "scene-1": ("scene-1/blur.dng", "scene-1/sharp.dng"),
        "scene-2": ("scene-2/blur.dng", "scene-2/sharp.dng"),
    }
    assert rejected(out) == dict.fromkeys(("scene-2/stray.dng", "scene-3/blur.dng", "scene-3/sharp.dng"), "duplicate")


def test_two_frames_of_the_same_bytes_are_no_pair(tmp_path: Path) -> None:
    shot(tmp_path / "raw/blur.dng")
    shutil.copy(tmp_path / "raw/blur.dng", tmp_path / "raw/sharp.dng")
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig())
    assert rejected(tmp_path / "out") == {"blur.dng": "no_partner", "sharp.dng": "duplicate"}


def test_a_table_names_pairs_scenes_and_ids(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / f"raw/{name}.png", 4, seed=ord(name))
    table = tmp_path / "pairs.csv"
    table.write_text("blur,sharp,scene,id\nraw/a.png,raw/b.png,Lake,First one\nraw/c.png,raw/b.png,Lake,\n")
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig(pairing="csv"), table=table)
    manifest = read_manifest(tmp_path / "out/ingested.jsonl")
    assert pairs(manifest) == {"first-one": ("a.png", "b.png"), "lake": ("c.png", "b.png")}
    assert {record.scene for record in manifest.records} == {"lake"}
    assert rejected(tmp_path / "out") == {"d.png": "no_partner"}


def test_a_second_run_reads_only_what_changed_and_writes_the_same_bytes(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    picture(raw / "x_blur.png", 8)
    picture(raw / "x_sharp.png", 2)
    ingest_photographs([raw], out, IngestConfig())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert ingest_photographs([raw], out, IngestConfig()).skipped == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    picture(raw / "x_sharp.png", 2, seed=5)
    assert ingest_photographs([raw], out, IngestConfig()).skipped == 1
    assert read_manifest(out / "ingested.jsonl").records[0].sharp.bytes == (raw / "x_sharp.png").stat().st_size
    assert ingest_photographs([raw], out, IngestConfig(), overwrite=True).skipped == 0


def test_a_file_that_was_only_touched_is_not_read_again(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    picture(raw / "x_blur.png", 8)
    picture(raw / "x_sharp.png", 2)
    ingest_photographs([raw], out, IngestConfig())
    before = (out / "ingested.jsonl").read_bytes()
    lines = (out / CACHE_FILE).read_text().replace('"make":null', '"make":"Planted"')
    (out / CACHE_FILE).write_text(lines)
    os.utime(raw / "x_blur.png", ns=(1, 1))
    assert ingest_photographs([raw], out, IngestConfig()).skipped == 1
    assert (out / "ingested.jsonl").read_bytes() != before
    assert read_manifest(out / "ingested.jsonl").records[0].blur_meta.make == "Planted"


@pytest.mark.parametrize("spoilt", ["ingested.jsonl", "rejected_files.csv", CACHE_FILE, LAST_RUN_FILE])
def test_a_run_in_which_nothing_changed_still_mends_what_it_wrote(tmp_path: Path, spoilt: str) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    picture(raw / "x_blur.png", 8)
    picture(raw / "x_sharp.png", 2)
    first = ingest_photographs([raw], out, IngestConfig())
    before = (out / spoilt).read_bytes()
    assert ingest_photographs([raw], out, IngestConfig()).outputs == first.outputs
    (out / spoilt).write_bytes(before + b"spoilt")
    ingest_photographs([raw], out, IngestConfig())
    if spoilt != LAST_RUN_FILE:
        assert (out / spoilt).read_bytes() == before
    (out / spoilt).unlink()
    ingest_photographs([raw], out, IngestConfig())
    assert (out / spoilt).is_file()


def test_another_configuration_is_another_run(tmp_path: Path) -> None:
    for step, grain in enumerate((16, 4)):
        picture(tmp_path / f"stack/step{step}.png", grain)
    ingest_photographs([tmp_path / "stack"], tmp_path / "out", IngestConfig())
    ingest_photographs([tmp_path / "stack"], tmp_path / "out", IngestConfig(reference="first"))
    assert pairs(read_manifest(tmp_path / "out/ingested.jsonl")) == {"step": ("step1.png", "step0.png")}


def test_pixels_that_cannot_be_decoded_are_found_on_request_or_where_a_rule_decodes(tmp_path: Path) -> None:
    for name in ("x_blur.png", "x_sharp.png", "s/1.png", "s/2.png"):
        picture(tmp_path / "raw" / name, 4, seed=len(name) + ord(name[-5]))
    for name in ("x_blur.png", "s/1.png"):
        content = bytearray((tmp_path / "raw" / name).read_bytes())
        content[60:300] = bytes(240)
        (tmp_path / "raw" / name).write_bytes(content)
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig())
    assert rejected(tmp_path / "out") == {"s/1.png": "unreadable", "s/2.png": "no_partner"}
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig(check_pixels=True))
    assert rejected(tmp_path / "out") == {
        **dict.fromkeys(("s/1.png", "x_blur.png"), "unreadable"),
        **dict.fromkeys(("s/2.png", "x_sharp.png"), "no_partner"),
    }
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig())
    assert rejected(tmp_path / "out") == {"s/1.png": "unreadable", "s/2.png": "no_partner"}


def test_pairs_without_names_or_exif_are_found_by_their_content(tmp_path: Path) -> None:
    names = iter("hcajbdgief")
    expected = set()
    for seed in range(4):
        sharp = np.repeat(leaves_picture(seed, 144, 216)[..., None], 3, axis=-1)
        blur, crisp = f"{next(names)}.dng", f"{next(names)}.dng"
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_dng(tmp_path / "raw" / crisp, sharp * 0.9)
        write_dng(tmp_path / "raw" / blur, cv2.GaussianBlur(sharp, (0, 0), 2.5) * 0.5)
        expected.add((blur, crisp))
    write_dng(tmp_path / "raw" / "alone.dng", np.repeat(leaves_picture(9, 144, 216)[..., None], 3, axis=-1))
    for executor in ("serial", "local:2"):
        ingest_photographs([tmp_path / "raw"], tmp_path / executor, IngestConfig(pairing="auto"), executor=executor)
    assert set(pairs(read_manifest(tmp_path / "serial/ingested.jsonl")).values()) == expected
    assert rejected(tmp_path / "serial") == {"alone.dng": "no_partner"}
    assert read_manifest(tmp_path / "serial/ingested.jsonl").records[0].kind == "auto"
    for name in ("ingested.jsonl", "rejected_files.csv"):
        assert (tmp_path / "serial" / name).read_bytes() == (tmp_path / "local:2" / name).read_bytes()


def test_a_memory_torn_by_a_kill_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    picture(raw / "x_blur.png", 8)
    picture(raw / "x_sharp.png", 2)
    ingest_photographs([raw], out, IngestConfig())
    whole = (out / CACHE_FILE).read_bytes()
    (out / CACHE_FILE).write_bytes(whole[: len(whole) - 40])
    assert ingest_photographs([raw], out, IngestConfig()).skipped == 1
    assert (out / CACHE_FILE).read_bytes() == whole


def test_workers_give_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    for name in ("a_blur", "a_sharp", "b_blur"):
        picture(tmp_path / f"raw/{name}.png", 4, seed=len(name))
    ingest_photographs([tmp_path / "raw"], tmp_path / "one", IngestConfig())
    ingest_photographs([tmp_path / "raw"], tmp_path / "two", IngestConfig(), executor="local:2")
    for name in ("ingested.jsonl", "rejected_files.csv", CACHE_FILE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_data_set_may_lie_among_its_sources(tmp_path: Path) -> None:
    picture(tmp_path / "x_blur.png", 8)
    picture(tmp_path / "x_sharp.png", 2)
    for out in (tmp_path / "dataset", tmp_path):
        ingest_photographs([tmp_path], out, IngestConfig())
        picture(out / "shards/preview.png", 4)
        assert ingest_photographs([tmp_path], out, IngestConfig()).total == 2
        shutil.rmtree(out / "shards")
        shutil.rmtree(tmp_path / "dataset", ignore_errors=True)


def test_invalid_arguments_are_errors_before_anything_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "raw/x.png", 4)
    with pytest.raises(InputError, match="no file or folder"):
        ingest_photographs([tmp_path / "nowhere"], tmp_path / "out", IngestConfig())
    with pytest.raises(InputError, match="no folder"):
        ingest_photographs([], tmp_path / "out", IngestConfig())
    with pytest.raises(ConfigError, match="'csv' without a table"):
        ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig(pairing="csv"))
    with pytest.raises(ConfigError, match="executor"):
        ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig(), executor="many")
    assert not (tmp_path / "out").exists()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["a_blur.png", "a_sharp.png", "b/1.png", "b/2.png", "c/gt.jpg", "x.txt", "d/ü.dng", "e.tif"]),
        st.sampled_from(["whole", "cut", "same", "noise"]),
        min_size=1,
    ),
    st.sampled_from(["focus", "aperture", "sequence"]),
)
def test_every_file_is_accounted_for_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], pairing: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for seed, (name, content) in enumerate(files.items()):
        whole = picture(folder / "tmp.png", 4, seed=0 if content == "same" else seed + 1).read_bytes()
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        broken = whole[:500] if content == "cut" else b"noise"
        (folder / "raw" / name).write_bytes(whole if content in ("whole", "same") else broken)
    if set(files) == {"x.txt"}:
        return
    found = find_pairs([folder / "raw"], folder / "out", IngestConfig(pairing=pairing))
    in_pairs = {ref.path for record in found.pairs.records for ref in (record.blur, record.sharp)}
    assert sorted([*in_pairs, *(entry.path for entry in found.rejected)]) == sorted(files)


def test_the_real_raw_folder_loses_nothing(tmp_path: Path, real_data: Path) -> None:
    ingest_photographs([real_data / "raw"], tmp_path, IngestConfig())
    manifest = read_manifest(tmp_path / "ingested.jsonl")
    reasons = rejected(tmp_path)
    in_pairs = {ref.path for record in manifest.records for ref in (record.blur, record.sharp)}
    everything = {str(path.relative_to(real_data / "raw")) for path in (real_data / "raw").rglob("*") if path.is_file()}
    assert in_pairs | set(reasons) == everything
    assert in_pairs == {f"burst_rpi_imx296/image_{number}.dng" for number in (0, 10, 20, 30)}
    assert {reason for path, reason in reasons.items() if path.startswith("broken/")} == {"unreadable"}
    assert {reason for path, reason in reasons.items() if "/" not in path} == {"no_partner"}


@pytest.mark.parametrize(("stack", "frames"), [("room", 6), ("pcb", 7)])
def test_a_real_focal_stack_gives_one_pair_less_than_it_has_frames(
    tmp_path: Path, real_data: Path, stack: str, frames: int
) -> None:
    ingest_photographs([real_data / "focal_stacks" / stack], tmp_path, IngestConfig())
    records = read_manifest(tmp_path / "ingested.jsonl").records
    assert len(records) == frames - 1
    assert len({record.sharp.path for record in records}) == len({record.scene for record in records}) == 1


def test_the_jpeg_a_camera_writes_beside_a_raw_file_is_that_shot_and_no_other(tmp_path: Path) -> None:
    for number, level in (("1", 0.5), ("2", 1.0)):
        shot(tmp_path / "raw" / f"IMG_{number}.dng", level, taken_at=f"2026:01:01 10:00:0{number}")
        picture(tmp_path / "raw" / f"img_{number}.JPG", grain=int(number))
    ingest_photographs([tmp_path / "raw"], tmp_path / "set", IngestConfig(pairing="sequence"))
    assert pairs(read_manifest(tmp_path / "set" / "ingested.jsonl")) == {"img_1": ("IMG_1.dng", "IMG_2.dng")}
    assert rejected(tmp_path / "set") == {"img_1.JPG": "duplicate", "img_2.JPG": "duplicate"}


def test_a_jpeg_beside_a_raw_file_is_used_where_a_table_names_it(tmp_path: Path) -> None:
    shot(tmp_path / "raw" / "a.dng")
    picture(tmp_path / "raw" / "a.jpg", grain=1)
    picture(tmp_path / "raw" / "b.jpg", grain=3)
    (tmp_path / "table.csv").write_text("blur,sharp\nraw/b.jpg,raw/a.jpg\n")
    ingest_photographs([tmp_path / "raw"], tmp_path / "set", IngestConfig(pairing="csv"), table=tmp_path / "table.csv")
    assert [pair for pair in pairs(read_manifest(tmp_path / "set" / "ingested.jsonl")).values()] == [("b.jpg", "a.jpg")]


def test_a_run_killed_when_all_was_read_but_nothing_written_ends_in_the_same_bytes(tmp_path: Path) -> None:
    for name in ("b_blur", "b_sharp", "a_blur", "a_sharp"):
        shot(tmp_path / "raw" / f"{name}.dng", 0.5 + 0.1 * len(name), taken_at="2026:01:01 10:00:00")
    ingest_photographs([tmp_path / "raw"], tmp_path / "set", IngestConfig())
    whole = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    for name in set(whole) - {CACHE_FILE}:
        (tmp_path / "set" / name).unlink()
    lines = whole[CACHE_FILE].splitlines(keepends=True)
    (tmp_path / "set" / CACHE_FILE).write_bytes(b"\n" + b"".join(reversed(lines)))
    ingest_photographs([tmp_path / "raw"], tmp_path / "set", IngestConfig())
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == whole


def test_a_pair_with_a_colour_profile_has_a_note_and_colours_of_no_primaries_a_reason(tmp_path: Path) -> None:
    profile = ColourProfile(
        "Display P3", (SRGB_CURVE,) * 3, colorants_of(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
    )
    (tmp_path / "raw").mkdir()
    pixels = cv2.imread(str(picture(tmp_path / "raw/scene_sharp.png", 4)))
    write_image(
        tmp_path / "raw/scene_blur.png",
        np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2), np.uint8),
        colour=ImageColour(profile, encode_icc(profile)),
    )
    Image.new("CMYK", (64, 64)).save(tmp_path / "raw/print.jpg")
    ingest_photographs([tmp_path / "raw"], tmp_path / "out", IngestConfig())
    (record,) = read_manifest(tmp_path / "out/ingested.jsonl").records
    assert record.notes == ("the blurred frame is converted from Display P3 to sRGB primaries",)
    assert rejected(tmp_path / "out") == {"print.jpg": "unreadable"}
