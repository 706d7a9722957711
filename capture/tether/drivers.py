"""Which driver serves the camera of a plan; gphoto2 is imported only when it is the one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdd_toolkit.errors import CameraError

if TYPE_CHECKING:
    from capture.tether.camera import Camera, DetectedCamera
    from capture.tether.plan import CameraTable


def connect(table: CameraTable) -> Camera:
    """The camera `table` describes, opened.

    Raises:
        CameraError: It is not connected, or another program holds it.
        MissingExtraError: gphoto2 is not installed.
    """
    if table.driver == "virtual":
        from capture.tether.virtual_camera import VirtualCamera

        return VirtualCamera(seed=table.seed)
    from capture.tether import gphoto_camera

    return gphoto_camera.connect(table.model, table.port)


def detect_cameras(driver: str) -> tuple[DetectedCamera, ...]:
    """What `driver` finds.

    Raises:
        CameraError: Nothing.
        MissingExtraError: gphoto2 is not installed.
    """
    if driver == "virtual":
        from capture.tether.virtual_camera import DETECTED

        return (DETECTED,)
    from capture.tether import gphoto_camera

    found = gphoto_camera.detect_cameras()
    if not found:
        raise CameraError("no camera is connected", hint=gphoto_camera.CONNECT_HINT)
    return found
