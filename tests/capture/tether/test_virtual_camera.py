from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.tether.camera import CameraBusyError, CameraFullError, CameraLostError
from capture.tether.virtual_camera import VirtualCamera
from sdd_toolkit.errors import CameraError
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.metadata import exif
from sdd_toolkit.quality import sharpness
from tests.support.tether_rig import SMALL, small_camera, small_plan

PLAN = small_plan()
FOCUS = small_plan({"kind": "focus", "focus_steps": [0, 150]})


def taken(camera: VirtualCamera, index: int, tmp_path: Path, **settings: str) -> Path:
    camera.announce((FOCUS if "focus" in settings else PLAN).shots[index])
    camera.drive_focus(int(settings.pop("focus", "0")))
    for name, value in settings.items():
        camera.set_value(name.replace("_", "-"), value)
    path = tmp_path / f"{index}.dng"
    path.write_bytes(camera.download(camera.capture(1)[0]))
    return path


def test_the_exif_of_a_frame_holds_the_settings_of_the_camera(tmp_path: Path) -> None:
    path = taken(small_camera(), 1, tmp_path, f_number="f/16", shutterspeed="0.5", iso="400")
    exposure = exif.read_meta(path).exposure
    assert (exposure.f_number, exposure.shutter_s, exposure.iso) == (16.0, 0.5, 400.0)


def test_stopping_down_sharpens_the_scene_and_equal_exposure_keeps_its_brightness(tmp_path: Path) -> None:
    camera = small_camera()
    blur = frames.read_half(taken(camera, 0, tmp_path, f_number="f/2.8", shutterspeed="1/60"))
    sharp = frames.read_half(taken(camera, 1, tmp_path, f_number="f/16", shutterspeed="0.5"))
    measured = sharpness.measure_quality(blur.rgb, sharp.rgb, 0.0, None)
    assert measured.sharpness_gain > 1.3
    assert abs(measured.exposure_ev) < 0.3


def test_an_optical_low_pass_softens_the_frame_and_keeps_its_light(tmp_path: Path) -> None:
    plain, soft = (
        frames.read_half(taken(VirtualCamera(0, SMALL.model_copy(update={"optical_low_pass_px": px})), 1, tmp_path)).rgb
        for px in (0.0, 1.0)
    )
    assert np.abs(np.diff(soft, axis=1)).mean() < 0.9 * np.abs(np.diff(plain, axis=1)).mean()
    assert soft.mean() == pytest.approx(plain.mean(), rel=0.002)


def test_driving_the_focus_away_blurs_a_scene_that_was_sharp(tmp_path: Path) -> None:
    camera = small_camera()
    sharp = frames.read_half(taken(camera, 0, tmp_path, focus="0"))
    blur = frames.read_half(taken(camera, 1, tmp_path, focus="150"))
    assert sharpness.measure_quality(blur.rgb, sharp.rgb, 0.0, None).sharpness_gain > 1.5


def test_a_frame_does_not_depend_on_what_was_shot_before(tmp_path: Path) -> None:
    long, short = small_camera(), small_camera()
    taken(long, 0, tmp_path)
    first = taken(long, 2, tmp_path).read_bytes()
    assert taken(short, 2, tmp_path).read_bytes() == first
    assert taken(small_camera(seed=1), 2, tmp_path).read_bytes() != first


def test_twice_the_time_is_twice_the_light(tmp_path: Path) -> None:
    camera = small_camera()
    dark = frames.read_half(taken(camera, 0, tmp_path, shutterspeed="1/250"))
    bright = frames.read_half(taken(camera, 0, tmp_path, shutterspeed="1/125"))
    assert np.median(bright.rgb) / np.median(dark.rgb) == pytest.approx(2.0, rel=0.05)


def test_raw_and_jpeg_are_two_files_of_one_name() -> None:
    camera = small_camera()
    camera.set_value("imagequality", "RAW+JPEG")
    camera.announce(PLAN.shots[0])
    paths = camera.capture(1)
    assert [path.rpartition("/")[2] for path in paths] == ["SDD_0001.DNG", "SDD_0001.JPG"]
    assert camera.list_files() == paths
    assert camera.download(paths[1])[:2] == b"\xff\xd8"


def test_a_file_that_was_deleted_is_gone() -> None:
    camera = small_camera()
    camera.announce(PLAN.shots[0])
    (path,) = camera.capture(1)
    camera.delete(path)
    assert camera.list_files() == ()
    with pytest.raises(CameraError, match="the card holds no"):
        camera.download(path)


@pytest.mark.parametrize(
    ("fault", "error"), [("busy", CameraBusyError), ("full", CameraFullError), ("lost", CameraLostError)]
)
def test_a_planted_fault_happens_at_its_frame_and_leaves_no_file(fault: str, error: type[CameraError]) -> None:
    camera = small_camera(faults={1: fault})
    camera.announce(PLAN.shots[0])
    with pytest.raises(error):
        camera.capture(1)
    camera.close()
    assert camera.list_files() == ()


def test_the_lens_stops_at_its_end_and_a_value_that_is_not_offered_is_refused() -> None:
    camera = small_camera()
    with pytest.raises(CameraError, match="at its stop"):
        camera.drive_focus(301)
    with pytest.raises(CameraError, match="does not offer iso"):
        camera.set_value("iso", "123")
