"""Camera driver on libgphoto2; the only module that imports gphoto2.

Every failure of the library becomes a `CameraError` with a way out. A value that a choice widget does not offer is
never passed to the library: its PTP driver crashes on some of them.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from capture.tether.camera import (
    FOCUS_DRIVE,
    CameraBusyError,
    CameraFullError,
    CameraLostError,
    CameraRefusedError,
    DetectedCamera,
    Setting,
    match_choice,
    require_setting,
    sort_raw_first,
)
from sdd_toolkit.errors import CameraError, MissingExtraError

try:
    import gphoto2 as gp
except ImportError as error:
    raise MissingExtraError.of("gphoto2", "tether") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capture.tether.plan import PlannedShot

DRIVER = "gphoto2"
_FULL_CODES = (gp.GP_ERROR_NO_MEMORY, gp.GP_ERROR_NO_SPACE)
_LOST_CODES = (
    gp.GP_ERROR_IO,
    gp.GP_ERROR_IO_INIT,
    gp.GP_ERROR_IO_READ,
    gp.GP_ERROR_IO_WRITE,
    gp.GP_ERROR_IO_UPDATE,
    gp.GP_ERROR_IO_USB_FIND,
    gp.GP_ERROR_IO_USB_CLEAR_HALT,
    gp.GP_ERROR_MODEL_NOT_FOUND,
    gp.GP_ERROR_UNKNOWN_PORT,
    gp.GP_ERROR_TIMEOUT,
)
_HELD_CODES = (gp.GP_ERROR_IO_USB_CLAIM, gp.GP_ERROR_IO_LOCK)
CONNECT_HINT = (
    "switch it on, set USB to PTP or tethered shooting, try another cable; sdd capture cameras lists the connected ones"
)
_HELD_HINT = (
    "another program holds it: close it, or stop the desktop's own with "
    "`systemctl --user stop gvfs-gphoto2-volume-monitor` (macOS: `killall PTPCamera`)"
)
_QUIET_MS, _MAX_DRAIN_S = 100, 5.0


def detect_cameras() -> tuple[DetectedCamera, ...]:
    """The cameras that libgphoto2 detects, without opening them."""
    with _translate_errors("looking for cameras"):
        cameras = gp.Camera.autodetect()
    return tuple(
        DetectedCamera(model=cameras.get_name(index), port=cameras.get_value(index), driver=DRIVER)
        for index in range(cameras.count())
    )


def connect(model: str | None = None, port: str | None = None) -> GphotoCamera:
    """Opens the first camera whose name contains `model` and whose port is `port`; None matches any.

    Raises:
        CameraError: No camera matches, or another program holds it.
    """
    detected = detect_cameras()
    matching = [
        camera
        for camera in detected
        if (model is None or model.casefold() in camera.model.casefold()) and port in (None, camera.port)
    ]
    if not matching:
        asked = " ".join(word for word in (model, f"at {port}" if port else None) if word)
        others = ", ".join(f"{camera.model} at {camera.port}" for camera in detected)
        connected = f"; connected: {others}" if others else ""
        raise CameraLostError(
            f"no camera {asked} is connected{connected}" if asked else "no camera is connected", hint=CONNECT_HINT
        )
    return GphotoCamera(matching[0])


class GphotoCamera:
    """A camera opened through libgphoto2; see `capture.tether.camera.Camera`."""

    keeps_focus = True

    def __init__(self, detected: DetectedCamera) -> None:
        self.model = detected.model
        self._camera = gp.Camera()
        with _translate_errors(f"opening {detected.model}"):
            ports, abilities = gp.PortInfoList(), gp.CameraAbilitiesList()
            ports.load()
            abilities.load()
            self._camera.set_port_info(ports[ports.lookup_path(detected.port)])
            self._camera.set_abilities(abilities[abilities.lookup_model(detected.model)])
            self._camera.init()

    def announce(self, shot: PlannedShot) -> None:
        """Does nothing: a real camera needs no scene."""

    def settings(self) -> tuple[Setting, ...]:
        """Every setting of the camera's tree, in its order."""
        with _translate_errors("reading the settings"):
            return tuple(_walk_settings(self._camera.get_config(), ""))

    def setting(self, name: str) -> Setting | None:
        """One setting, read anew from the camera."""
        widget = self._widget(name)
        return None if widget is None else _to_setting(widget, "")

    def set_value(self, name: str, value: str) -> None:
        """Sets one value; the caller has checked that it is offered."""
        widget = self._widget(name)
        if widget is None:
            raise CameraError(f"{self.model} has no setting {name!r}", hint="see sdd capture cameras --settings")
        setting = _to_setting(widget, "")
        if setting.choices and value not in setting.choices:
            raise CameraError(f"{self.model} no longer offers {name} = {value!r}", hint="was the lens changed?")
        with _translate_errors(f"setting {name} = {value}"):
            widget.set_value(_to_widget_value(widget, value))
            self._camera.set_single_config(name, widget)

    def capture(self, timeout_s: float) -> tuple[str, ...]:
        """Takes a frame; a body that writes RAW and JPEG announces the second file by an event."""
        self._drain(quiet_ms=1, longest_s=1.0)
        with _translate_errors("taking a frame"):
            first = self._camera.capture(gp.GP_CAPTURE_IMAGE)
        paths = [_join_path(first)]
        # A busy camera must not cause a second trigger: the frame is taken.
        with suppress(CameraBusyError):
            paths += self._drain(quiet_ms=_QUIET_MS, longest_s=min(timeout_s, _MAX_DRAIN_S))
        stem = PurePosixPath(paths[0]).stem
        # Some drivers announce earlier files once more: only files of the frame's own name count.
        paths = [path for path in dict.fromkeys(paths) if PurePosixPath(path).stem == stem]
        return tuple(sort_raw_first(paths))

    def list_files(self) -> tuple[str, ...]:
        """All files on all stores of the camera."""
        with _translate_errors("listing the camera's files"):
            return tuple(sorted(self._files("/")))

    def download(self, path: str) -> bytes:
        """The unchanged bytes of the file."""
        folder, name = _split_path(path)
        with _translate_errors(f"downloading {name}"):
            file = self._camera.file_get(folder, name, gp.GP_FILE_TYPE_NORMAL)
            return bytes(memoryview(file.get_data_and_size()))

    def delete(self, path: str) -> None:
        """Deletes the file on the camera."""
        folder, name = _split_path(path)
        with _translate_errors(f"deleting {name}"):
            self._camera.file_delete(folder, name)

    def drive_focus(self, steps: int) -> None:
        """Moves by a number of steps (Nikon and others), or by repeated `Near 1` or `Far 1`, one a step (Canon)."""
        widget = require_setting(self, FOCUS_DRIVE)
        if widget.span is not None or not widget.choices:
            self._put_focus(widget.name, match_choice(widget, f"{steps}", self.model))
            return
        side = "Far" if steps > 0 else "Near"
        for _ in range(abs(steps)):
            move = next((choice for choice in widget.choices if choice.casefold() == f"{side} 1".casefold()), None)
            if move is None:
                raise CameraError(
                    f"{self.model} has no focus move {side} 1", hint=f"it offers {', '.join(widget.choices)}"
                )
            self._put_focus(widget.name, move)

    def close(self) -> None:
        """Ends the session with the camera."""
        with suppress(gp.GPhoto2Error):
            self._camera.exit()

    def _put_focus(self, name: str, value: str) -> None:
        # Not `set_value`: such a widget is an action, and has no value to read back.
        widget = self._widget(name)
        with _translate_errors("moving the focus"):
            widget.set_value(_to_widget_value(widget, value))
            self._camera.set_single_config(name, widget)

    def _widget(self, name: str) -> Any:
        with _translate_errors(f"reading {name}"):
            try:
                return self._camera.get_single_config(name)
            except gp.GPhoto2Error as error:
                # Either there is no such setting, or the driver has no single settings at all: the tree decides.
                if error.code not in (gp.GP_ERROR_BAD_PARAMETERS, gp.GP_ERROR_NOT_SUPPORTED, gp.GP_ERROR):
                    raise
            try:
                return self._camera.get_config().get_child_by_name(name)
            except gp.GPhoto2Error as error:
                if error.code != gp.GP_ERROR_BAD_PARAMETERS:
                    raise
                return None

    def _drain(self, *, quiet_ms: int, longest_s: float) -> list[str]:
        """Paths of the files that the camera announces until it is silent for `quiet_ms`."""
        deadline, paths = time.monotonic() + longest_s, list[str]()
        while True:
            with _translate_errors("waiting for the camera"):
                kind, data = self._camera.wait_for_event(quiet_ms)
            if kind == gp.GP_EVENT_FILE_ADDED:
                paths.append(_join_path(data))
            if kind == gp.GP_EVENT_TIMEOUT or time.monotonic() > deadline:
                return paths

    def _files(self, folder: str) -> Iterator[str]:
        names = self._camera.folder_list_files(folder)
        yield from (f"{folder.rstrip('/')}/{names.get_name(index)}" for index in range(names.count()))
        folders = self._camera.folder_list_folders(folder)
        for index in range(folders.count()):
            yield from self._files(f"{folder.rstrip('/')}/{folders.get_name(index)}")


@contextmanager
def _translate_errors(action: str) -> Iterator[None]:
    """Raises errors of libgphoto2 in the block as `CameraError`; `action` is named in the message."""
    try:
        yield
    except gp.GPhoto2Error as error:
        raise camera_error(error.code, error.string, action) from error


def camera_error(code: int, text: str, action: str) -> CameraError:
    """The error for a `code` of libgphoto2 and its `text` during `action`."""
    detail = f"{action}: {text} ({code})"
    if code in _HELD_CODES:
        return CameraBusyError(f"the camera is busy: {detail}", hint=_HELD_HINT)
    if code == gp.GP_ERROR_CAMERA_BUSY:
        return CameraBusyError(f"the camera is busy: {detail}", hint="wait until it has written its buffer, then again")
    if code in _FULL_CODES:
        return CameraFullError(
            f"the camera's card is full: {detail}",
            hint="change or empty the card, then run the same command again to resume",
        )
    if code in _LOST_CODES:
        lead = "the camera does not answer in time" if code == gp.GP_ERROR_TIMEOUT else "the camera is gone"
        return CameraLostError(
            f"{lead}: {detail}", hint="check cable and battery, then run the same command again to resume"
        )
    return CameraRefusedError(
        f"the camera refused: {detail}",
        hint="autofocus off, mode M, lens cap off? then run the same command again to resume",
    )


def _walk_settings(widget: Any, folder: str) -> Iterator[Setting]:
    if widget.get_type() in (gp.GP_WIDGET_WINDOW, gp.GP_WIDGET_SECTION):
        for child in widget.get_children():
            yield from _walk_settings(child, widget.get_name())
    elif widget.get_type() != gp.GP_WIDGET_BUTTON:
        yield _to_setting(widget, folder)


def _to_setting(widget: Any, folder: str) -> Setting:
    kind = widget.get_type()
    value = widget.get_value()
    return Setting(
        name=widget.get_name(),
        label=widget.get_label(),
        value=f"{value:g}" if isinstance(value, float) else "" if value is None else str(value),
        choices=tuple(widget.get_choices()) if kind in (gp.GP_WIDGET_RADIO, gp.GP_WIDGET_MENU) else (),
        read_only=bool(widget.get_readonly()),
        folder=folder,
        span=tuple(widget.get_range()) if kind == gp.GP_WIDGET_RANGE else None,
    )


def _to_widget_value(widget: Any, value: str) -> Any:
    """`value` in the type of the widget."""
    kind = widget.get_type()
    if kind == gp.GP_WIDGET_RANGE:
        return float(value)
    if kind == gp.GP_WIDGET_TOGGLE:
        return int(value.strip().casefold() in ("1", "true", "on", "yes"))
    if kind == gp.GP_WIDGET_DATE:
        return int(float(value))
    return value


def _join_path(file: Any) -> str:
    return f"{file.folder.rstrip('/')}/{file.name}"


def _split_path(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder or "/", name
