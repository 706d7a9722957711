from __future__ import annotations

from capture.drivers import connect, connected
from capture.plan import CameraTable
from capture.virtual.tethered import FOUND


def test_the_virtual_camera_is_always_connected() -> None:
    assert connected("virtual") == (FOUND,)
    assert connect(CameraTable(driver="virtual", seed=3)).model == "SDD Virtual Camera"
