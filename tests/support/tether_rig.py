"""Small plans and cameras for the tests of tethered capture, libgphoto2's virtual USB camera among them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.tether.plan import ShootingPlan, parse_plan
from capture.tether.virtual_camera import VirtualCamera
from capture.virtual.config import SimulateConfig
from sdd_toolkit.frames.writing import encode_image
from sdd_toolkit.metadata import exif_block
from sdd_toolkit.records import Exposure, FrameMeta
from tests.support.paths import ROOT

SMALL = SimulateConfig(width=192, height=128, exposure_error_ev=0, max_shift_px=0)
QUICK = {"settle_s": 0, "scenes": 2}
PAIR = {"apertures": ["f/2.8", "f/16"], "shutter": "1/60"}
UNCHECKED = {"enabled": False}


def small_camera(seed: int = 0, faults: dict[int, str] | None = None) -> VirtualCamera:
    return VirtualCamera(seed=seed, config=SMALL, faults=faults)


def small_plan(
    defaults: dict[str, Any] | None = None, session: dict[str, Any] | None = None, **tables: Any
) -> ShootingPlan:
    content = {"session": {**QUICK, **(session or {})}, "defaults": defaults or PAIR, **tables}
    return parse_plan(content, "plan")


def journal_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "session.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def frames_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def every_frame_once(folder: Path) -> list[str]:
    """The frames of a finished session, after a check that the journal names each once, with its hash, and no more."""
    entries = journal_of(folder)
    files = sorted([entry["file"] for entry in entries] + [ref["path"] for entry in entries for ref in entry["also"]])
    assert files == [name for name in frames_in(folder) if name != "session.jsonl"]
    for entry in entries:
        assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    return files


def usb_camera(folder: Path, exposure: Exposure | None = None) -> dict[str, str]:
    """The environment in which libgphoto2 finds its virtual Nikon D750, whose every frame is one JPEG."""
    spec = importlib.util.find_spec("gphoto2")
    if spec is None or spec.origin is None:
        pytest.skip("gphoto2 is not installed")
    driver = Path(spec.origin).parent / "libgphoto2" / "vusb"
    if not driver.is_dir():
        pytest.skip("this gphoto2 comes without libgphoto2's virtual USB camera")
    store = folder / "camera" / "DCIM" / "100TEST"
    store.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(30, 220, (120, 160, 3)).astype(np.uint8)
    exif = None if exposure is None else exif_block.build_block(FrameMeta(exposure=exposure))
    (store / "one.JPG").write_bytes(encode_image(Path("one.jpg"), pixels, exif))
    # libgphoto2 remembers settings of the last run in the user's home.
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return {**os.environ, **home, "IOLIBS": str(driver), "VCAMERADIR": str(folder / "camera")}


def no_camera(folder: Path) -> dict[str, str]:
    """The environment in which libgphoto2 finds nothing."""
    hidden = ("IOLIBS", "VCAMERADIR")
    return {key: value for key, value in os.environ.items() if key not in hidden} | {"HOME": str(folder)}


def tethered(*words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`sdd capture WORDS` as a user runs it, without a terminal."""
    command = [sys.executable, "-m", "cli", "capture", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def plan_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
