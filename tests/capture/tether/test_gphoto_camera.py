"""libgphoto2 itself, through its virtual USB camera, in processes of their own: it reads its environment once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdd_toolkit.records import Exposure
from tests.support.paths import ROOT
from tests.support.tether_rig import every_frame_once, journal_of, no_camera, plan_file, tethered, usb_camera

LOOK = """
import json
from capture.tether import gphoto_camera
from capture.tether.camera import match_choice, require_setting, set_and_confirm
"""
PLAN = """
[session]
scenes = {scenes}
settle_s = 0
[check]
enabled = false
[defaults]
apertures = ["f/4", "f/16"]
{more}
"""


def python(code: str, env: dict[str, str]) -> Any:
    """What `code`, with the camera opened as `camera`, prints as JSON."""
    words = [sys.executable, "-c", LOOK + code]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_camera_is_detected_and_lists_its_settings(tmp_path: Path) -> None:
    found, settings = python(
        "camera = gphoto_camera.connect('d750')\n"
        "tree = {entry.name: [entry.value, len(entry.choices), entry.read_only] for entry in camera.settings()}\n"
        "print(json.dumps([[entry.model for entry in gphoto_camera.detect_cameras()], tree]))",
        usb_camera(tmp_path),
    )
    assert found == ["Nikon DSC D750"]
    assert settings["f-number"] == ["f/2.8", 18, False]
    assert settings["shutterspeed"] == ["0.0100s", 9, False]
    assert settings["imagesize"] == ["640x480", 3, True]


def test_the_opening_is_set_read_back_and_a_frame_downloaded_whole(tmp_path: Path) -> None:
    env = usb_camera(tmp_path)
    held, paths, size, listed, left = python(
        "camera = gphoto_camera.connect()\n"
        "opening = require_setting(camera, ('f-number',))\n"
        "held = set_and_confirm(camera, opening, match_choice(opening, '16', camera.model), 2)\n"
        "paths = camera.capture(5)\n"
        "size, listed = len(camera.download(paths[0])), camera.list_files()\n"
        "camera.delete(paths[0])\n"
        "print(json.dumps([held, paths, size, listed, camera.list_files()]))\n"
        "camera.close()",
        env,
    )
    assert held == "f/16"
    assert size == (tmp_path / "camera/DCIM/100TEST/one.JPG").stat().st_size
    assert len(paths) == 1
    assert set(listed) - set(left) == set(paths)


def test_every_code_of_the_library_becomes_an_error_with_a_way_out(tmp_path: Path) -> None:
    told = python(
        "codes = (-53, -110, -3, -115, -52, -7, -10, -1)\n"
        "errors = [gphoto_camera.camera_error(code, 'text', 'taking a frame') for code in codes]\n"
        "print(json.dumps([[type(error).__name__, error.what, error.hint] for error in errors]))",
        no_camera(tmp_path) if usb_camera(tmp_path) else {},
    )
    kinds = [kind.removeprefix("Camera").removesuffix("Error") for kind, _, _ in told]
    assert kinds == ["Busy", "Busy", "Full", "Full", "Lost", "Lost", "Lost", "Refused"]
    assert "gvfs-gphoto2-volume-monitor" in told[0][2]
    assert told[6][1] == "the camera does not answer in time: taking a frame: text (-10)"
    assert all("again" in hint or "another program" in hint for _, _, hint in told)


@pytest.mark.parametrize(
    ("more", "what", "hint"),
    [
        ('[camera]\nmodel = "Canon"', "no camera Canon is connected; connected: Nikon DSC D750 at usb:001,001", "PTP"),
        ("[camera.settings]\nimageformat = 'RAW'", "has no setting 'imageformat'", "it has "),
        ("[camera.settings]\ncapturetarget = 'Memory crd'", "does not offer capturetarget", "it offers Memory card, "),
        ("[camera.settings]\nimagesize = '640x480'", "does not let imagesize be set", "on the camera itself"),
        (
            "[[scene]]\nname = 'wide'\napertures = ['f/1.8', 'f/16']",
            "offer f-number = 'f/1.8'",
            "it offers f/2.8, f/3.5",
        ),
        ("[[scene]]\nname = 'dark'\nshutter = 30", "does not offer shutterspeed = '30'", "it offers 1.0000s, 0.1000s"),
        ("[[scene]]\nname = 'grainy'\niso = 100", "has no setting 'iso'", "it has "),
        ("[[scene]]\nname = 'moved'\nkind = 'focus'\nfocus_steps = [0, 9]", "no setting 'manualfocusdrive'", "it has "),
    ],
)
def test_what_the_camera_cannot_do_is_said_before_the_first_frame(
    tmp_path: Path, more: str, what: str, hint: str
) -> None:
    plan = plan_file(tmp_path / "plan.toml", PLAN.format(scenes=1, more=more))
    done = tethered("run", plan, env=usb_camera(tmp_path))
    assert done.returncode == 4
    error, help_ = done.stderr.strip().splitlines()[-2:]
    assert what in error
    assert hint in help_
    assert not list((tmp_path / "session").rglob("*.jpg"))


def test_without_a_camera_the_error_says_what_to_check(tmp_path: Path) -> None:
    usb_camera(tmp_path)
    plan = plan_file(tmp_path / "plan.toml", PLAN.format(scenes=1, more=""))
    for words in (["cameras"], ["run", plan, "--yes"]):
        done = tethered(*words, env=no_camera(tmp_path))
        assert done.returncode == 4
        assert done.stderr.strip().splitlines()[-2:][0] == "error: no camera is connected"


def test_a_full_store_stops_at_the_27th_frame_and_the_next_run_goes_on(tmp_path: Path) -> None:
    env = usb_camera(tmp_path)
    plan = plan_file(tmp_path / "plan.toml", PLAN.format(scenes=14, more=""))
    done = tethered("run", plan, "--yes", env=env)
    assert done.returncode == 4
    assert "error: the camera's card is full: taking a frame" in done.stderr
    assert len(journal_of(tmp_path / "session")) == 26
    again = tethered("run", plan, "--yes", "--json", env=env)
    report = json.loads(again.stdout)
    assert (report["done"], report["skipped"]) == (2, 26)
    assert len(every_frame_once(tmp_path / "session")) == 28


def test_exif_of_another_opening_is_a_warning_in_the_journal_and_the_summary(tmp_path: Path) -> None:
    env = usb_camera(tmp_path, Exposure(f_number=4.0, shutter_s=0.01))
    plan = plan_file(tmp_path / "plan.toml", PLAN.format(scenes=1, more=""))
    done = tethered("run", plan, env=env)
    assert done.returncode == 0
    blur, sharp = journal_of(tmp_path / "session")
    assert blur["warnings"] == []
    assert "EXIF tells f-number 4, set was 16" in sharp["warnings"]
    assert "! EXIF tells f-number 4, set was 16: scene-0001/sharp.jpg" in done.stdout
