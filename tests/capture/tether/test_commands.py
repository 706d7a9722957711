from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from capture.tether.commands import cameras, plan, shoot
from sdd_toolkit.errors import InputError, IntegrityError
from tests.support.paths import ROOT
from tests.support.tether_rig import every_frame_once, journal_of, plan_file

ONE = """
[camera]
driver = "virtual"
[camera.settings]
autofocus = "Off"
[session]
scenes = 1
settle_s = 0
[defaults]
apertures = ["f/2.8", "f/16"]
shutter = "{shutter}"
"""


def at_a_terminal(*words: object, answers: str) -> str:
    """What a person sees who runs `sdd capture WORDS` and types `answers`."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cli", "capture", *map(str, words)]
    program = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answers.encode())
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the program has closed its end
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert program.wait() == 0, seen.decode()
    return seen.decode()


def test_a_plan_is_written_once_and_not_over_another(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    shown = CliRunner().invoke(plan, ["--scenes", "3"]).stdout
    assert CliRunner().invoke(plan, ["--scenes", "3", "--out", str(path)]).stdout == f"-> {path}\n"
    assert path.read_text() == shown
    assert isinstance(CliRunner().invoke(plan, ["--out", str(path)]).exception, InputError)
    assert CliRunner().invoke(plan, ["--kind", "focus", "--out", str(path), "--overwrite"]).exit_code == 0
    assert 'kind = "focus"' in path.read_text()


def test_a_dry_run_lists_the_frames_and_touches_nothing(tmp_path: Path) -> None:
    path = plan_file(tmp_path / "plan.toml", ONE.format(shutter="1/60"))
    done = CliRunner().invoke(shoot, [str(path), "--dry-run"])
    assert done.stdout.splitlines() == [
        "scene-0001/blur  f/2.8, 1/60 s",
        "scene-0001/sharp  f/16, 0.5442 s",
        "2 frames, about 7 s without the time to arrange the scenes",
    ]
    told = json.loads(CliRunner().invoke(shoot, [str(path), "--dry-run", "--json"]).stdout)
    assert [shot["stem"] for shot in told["shots"]] == ["scene-0001/blur", "scene-0001/sharp"]
    assert not (tmp_path / "session").exists()


def test_a_run_without_a_terminal_accepts_frames_but_replaces_none_without_consent(tmp_path: Path) -> None:
    path, out = plan_file(tmp_path / "plan.toml", ONE.format(shutter="1")), tmp_path / "there"
    done = CliRunner().invoke(shoot, [str(path), "--out", str(out), "--json"])
    report = json.loads(done.stdout)
    assert (done.exit_code, report["stage"], report["done"]) == (0, "capture", 2)
    assert report["warnings"][0].startswith("over-exposed: ")
    (out / "scene-0001/blur.dng").unlink()
    assert isinstance(CliRunner().invoke(shoot, [str(path), "--out", str(out)]).exception, IntegrityError)
    assert CliRunner().invoke(shoot, [str(path), "--out", str(out), "--yes"]).exit_code == 0
    assert len(every_frame_once(out)) == 2
    again = CliRunner().invoke(shoot, [str(path), "--out", str(out)]).stdout.splitlines()
    assert again[0].startswith("capture: 0 done, 2 unchanged, 0 rejected of 2 in ")
    assert "  2 frames were finished before, their hashes are verified" in again


def test_the_plan_of_another_camera_can_be_rehearsed(tmp_path: Path) -> None:
    text = ONE.format(shutter="1/60").replace('"virtual"', '"gphoto2"\nmodel = "EOS"').replace("autofocus", "eosmode")
    path = plan_file(tmp_path / "plan.toml", text)
    done = CliRunner().invoke(shoot, [str(path), "--camera", "virtual", "--yes"])
    assert done.exit_code == 0
    assert every_frame_once(tmp_path / "session") == ["scene-0001/blur.dng", "scene-0001/sharp.dng"]


def test_at_a_terminal_a_scene_begins_at_enter_and_is_repeated_on_request(tmp_path: Path) -> None:
    path = plan_file(tmp_path / "plan.toml", ONE.format(shutter="1"))
    seen = at_a_terminal("run", path, answers="\ny\nn\nn\n")
    assert "scene-0001: press Enter to shoot" in seen
    assert seen.count("Repeat this scene?") == 3
    assert len(every_frame_once(tmp_path / "session")) == 2
    assert [entry["run"] for entry in journal_of(tmp_path / "session")] == [1, 1]


def test_at_a_terminal_a_missing_frame_is_shot_again_on_request(tmp_path: Path) -> None:
    path = plan_file(tmp_path / "plan.toml", ONE.format(shutter="1/60"))
    CliRunner().invoke(shoot, [str(path), "--yes"])
    (tmp_path / "session/scene-0001/blur.dng").unlink()
    seen = at_a_terminal("run", path, answers="y\n\n")
    assert "scene-0001/blur.dng is missing" in seen
    assert len(every_frame_once(tmp_path / "session")) == 2


def test_cameras_and_their_settings_are_listed() -> None:
    lines = CliRunner().invoke(cameras, ["--camera", "virtual", "--settings"]).stdout.splitlines()
    assert lines[0] == "SDD Virtual Camera  virtual:  (virtual)"
    assert "capturesettings/f-number  f-number = 'f/2.8'" in lines
    assert "    f/16" in lines
    assert lines[-1] == "actions/manualfocusdrive  manualfocusdrive = '0'  -300 ... 300, step 1"


def test_the_list_is_json_on_request() -> None:
    told = json.loads(CliRunner().invoke(cameras, ["--camera", "virtual", "--json"]).stdout)
    assert told == {"cameras": [{"model": "SDD Virtual Camera", "port": "virtual:", "driver": "virtual"}],
                    "settings": []}  # fmt: skip
