"""A session on libgphoto2's virtual camera, killed again and again, ends with every frame once and its hash right."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.tether_rig import every_frame_once, plan_file, tethered, usb_camera

FIVE = """
[session]
scenes = 5
settle_s = 0
[defaults]
apertures = ["f/2.8", "f/16"]
shutter = "1/100"
"""
ALL = [f"scene-{number:04d}/{role}.jpg" for number in range(1, 6) for role in ("blur", "sharp")]


@pytest.mark.parametrize("seed", range(3))
def test_a_session_killed_at_any_moment_resumes_to_every_frame_once(tmp_path: Path, seed: int) -> None:
    draw, env = random.Random(seed), usb_camera(tmp_path)
    plan = plan_file(tmp_path / "plan.toml", FIVE)
    command = [sys.executable, "-m", "cli", "capture", "run", str(plan), "--yes"]
    for _ in range(4):
        session = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.2, 1.4))
        session.send_signal(draw.choice((signal.SIGKILL, signal.SIGINT)))
        assert session.wait() in (0, 130, -signal.SIGKILL, -signal.SIGINT)
    report = json.loads(tethered("run", plan, "--yes", "--json", env=env).stdout)
    assert report["done"] + report["skipped"] == 10
    assert every_frame_once(tmp_path / "session") == ALL


def test_ctrl_c_finishes_the_frame_says_how_to_resume_and_exits_with_130(tmp_path: Path) -> None:
    env, journal = usb_camera(tmp_path), tmp_path / "session/session.jsonl"
    plan = plan_file(tmp_path / "plan.toml", FIVE)
    command = [sys.executable, "-m", "cli", "capture", "run", str(plan), "--yes"]
    session = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    while not (journal.exists() and len(journal.read_text().splitlines()) > 2):
        assert session.poll() is None
        time.sleep(0.01)
    session.send_signal(signal.SIGINT)
    _, errors = session.communicate()
    assert session.returncode == 130
    assert errors.rstrip().endswith("interrupted: run the same command again to resume")
    assert not (tmp_path / "session/session.state.json").exists()
    assert len(every_frame_once(tmp_path / "session")) in range(2, 10)


def test_two_runs_in_one_folder_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    env = usb_camera(tmp_path)
    plan = plan_file(tmp_path / "plan.toml", FIVE)
    command = [sys.executable, "-m", "cli", "capture", "run", str(plan), "--yes"]
    first = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "session/session.jsonl").exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = tethered("run", plan, "--yes", env=env)
    assert second.returncode == 4
    assert f"another run is shooting into {tmp_path / 'session'}: process {first.pid}" in second.stderr
    assert first.wait() == 0
    assert every_frame_once(tmp_path / "session") == ALL
