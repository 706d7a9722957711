from __future__ import annotations

from dataclasses import replace

import pytest

from capture.tether.camera import Camera, Setting
from capture.tether.frame_settings import apply_session_settings, check_shots, read_shutter_s, resolve_settings
from capture.tether.plan import PlannedShot
from capture.tether.virtual_camera import VirtualCamera
from sdd_toolkit.errors import CameraError
from tests.support.tether_rig import small_camera, small_plan


class Locked(VirtualCamera):
    """A camera that is not in manual mode: the shutter can only be read."""

    def setting(self, name: str) -> Setting | None:
        found = super().setting(name)
        return replace(found, read_only=True) if found is not None and name == "shutterspeed" else found


def second(**defaults: object) -> PlannedShot:
    return small_plan({"apertures": ["f/2.8", "f/16"], **defaults}).shots[1]


def choices(camera: Camera, shot: PlannedShot, start_s: float | None = None) -> list[str]:
    return [choice for _, choice in resolve_settings(camera, shot, start_s).settings]


def test_the_second_frame_gets_the_time_of_equal_exposure_rounded_to_a_speed_of_the_camera() -> None:
    dialled = resolve_settings(small_camera(), second(shutter="1/60", iso=200), None)
    assert [(setting.name, choice) for setting, choice in dialled.settings] == [
        ("f-number", "f/16"),
        ("iso", "200"),
        ("shutterspeed", "0.5"),
    ]
    # 1/60 s (16 / 2.8)² = 0.544 s
    assert dialled.residual_ev == pytest.approx(-0.122, abs=0.001)
    assert dialled.warnings == ()


def test_a_plan_without_a_time_starts_from_the_cameras_own() -> None:
    assert choices(small_camera(), second(), start_s=read_shutter_s(small_camera())) == ["f/16", "0.5"]


def test_a_time_that_cannot_be_had_nearly_is_a_warning() -> None:
    dialled = resolve_settings(small_camera(), second(shutter="8"), None)
    assert dialled.settings[-1][1] == "30"
    assert dialled.residual_ev == pytest.approx(-3.12, abs=0.01)
    assert dialled.warnings == ("shutter 30 is -3.12 EV off the wanted 261.2 s; none is nearer",)


def test_a_first_time_far_from_every_speed_is_refused() -> None:
    with pytest.raises(CameraError, match="does not offer shutterspeed = '100'"):
        resolve_settings(small_camera(), small_plan({"apertures": [2.8, 16], "shutter": 100}).shots[0], None)


def test_a_camera_whose_shutter_is_locked_shoots_a_plan_that_names_no_time_with_a_warning() -> None:
    dialled = resolve_settings(Locked(), second(), 1 / 60)
    assert [choice for _, choice in dialled.settings] == ["f/16"]
    assert dialled.warnings[0].startswith("this camera does not let the shutter be set")


def test_a_camera_whose_shutter_is_locked_refuses_a_plan_that_names_a_time() -> None:
    with pytest.raises(CameraError, match="does not let shutterspeed be set"):
        resolve_settings(Locked(), second(shutter="1/60"), None)


def test_a_focus_pair_leaves_alone_what_the_plan_does_not_name() -> None:
    shot = small_plan({"kind": "focus", "focus_steps": [0, 40]}).shots[1]
    assert choices(small_camera(), shot, start_s=1 / 60) == []


def test_a_plan_the_camera_cannot_shoot_is_refused_before_its_first_frame() -> None:
    shots = small_plan(scene=[{"name": "last", "apertures": ["f/2.8", "f/64"]}]).shots
    with pytest.raises(CameraError, match="does not offer f-number = 'f/64'"):
        check_shots(small_camera(), shots, None)


@pytest.mark.parametrize(("value", "held"), [("memory card", "Memory card"), ("Internal RAM", "Internal RAM")])
def test_what_is_set_once_is_read_back(value: str, held: str) -> None:
    camera = small_camera()
    apply_session_settings(
        camera, {"capturetarget": value, "iso": 400, "autofocus": False}, mirror_up=True, timeout_s=1
    )
    values = {setting.name: setting.value for setting in camera.settings()}
    assert (values["capturetarget"], values["iso"], values["autofocus"]) == (held, "400", "Off")
    assert values["exposuredelaymode"] == "1s"


def test_mirror_up_is_refused_by_a_camera_that_has_none() -> None:
    class Mirrorless(VirtualCamera):
        def setting(self, name: str) -> Setting | None:
            return None if name == "exposuredelaymode" else super().setting(name)

    with pytest.raises(CameraError, match="no setting 'exposuredelaymode' or 'mirrorlock'"):
        apply_session_settings(Mirrorless(), {}, mirror_up=True, timeout_s=1)
