"""Chooses the camera driver of a plan; gphoto2 is imported only if the plan uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdd_toolkit.errors import CameraError

if TYPE_CHECKING:
    from capture.tether.camera import Camera, DetectedCamera
    from capture.tether.plan_config import CameraTable


def connect(table: CameraTable) -> Camera:
    """Opens the camera that `table` describes.

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
    """The connected cameras that `driver` detects.

    Raises:
        CameraError: It detects none.
        MissingExtraError: gphoto2 is not installed.
    """
    if driver == "virtual":
        from capture.tether.virtual_camera import DETECTED

        return (DETECTED,)
    from capture.tether import gphoto_camera

    cameras = gphoto_camera.detect_cameras()
    if not cameras:
        raise CameraError("no camera is connected", hint=gphoto_camera.CONNECT_HINT)
    return cameras
