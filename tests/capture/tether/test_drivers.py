from __future__ import annotations

import subprocess
import sys

from capture.tether.drivers import connect, detect_cameras
from capture.tether.plan_config import CameraTable
from capture.tether.virtual_camera import DETECTED
from tests.support.paths import ROOT


def test_the_virtual_camera_is_always_connected() -> None:
    assert detect_cameras("virtual") == (DETECTED,)
    assert connect(CameraTable(driver="virtual", seed=3)).model == "SDD Virtual Camera"


def test_without_gphoto2_the_error_names_the_extra_to_install() -> None:
    code = "import sys\nsys.modules['gphoto2'] = None\nsys.argv = ['sdd', 'capture', 'cameras']\nimport cli\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 6
    assert done.stderr == 'error: gphoto2 is not installed\nhint: pip install "sdd-toolkit[tether]"\n'
