"""A virtual camera with the interface of real ones, for the rehearsal of a session without hardware.

It renders one dead-leaves scene for each scene of the plan, has settings in the spelling of libgphoto2, and returns DNG
files. A frame depends on the seed, the planned frame, the settings and the focus, not on earlier frames: an interrupted
session ends in the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.tether.camera import (
    CameraBusyError,
    CameraFullError,
    CameraLostError,
    CameraRefusedError,
    DetectedCamera,
    Setting,
)
from capture.tether.exposure import parse_f_number, parse_shutter_s
from capture.virtual import compositing, lens, sensor
from capture.virtual.config import SimulateConfig
from capture.virtual.dead_leaves import dead_leaves
from capture.virtual.plan import VirtualShot
from capture.virtual.scene import VirtualScene
from sdd_toolkit.errors import CameraError
from sdd_toolkit.imaging import resampling
from sdd_toolkit.imaging.encoding import srgb_encode
from sdd_toolkit.raw import dng

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from capture.tether.plan import PlannedShot

DRIVER = "virtual"
DETECTED = DetectedCamera(model="SDD Virtual Camera", port="virtual:", driver=DRIVER)

_CARD = "/store_00010001/DCIM/100SDD"
_FIRST_SHOT_AT = datetime(2026, 1, 1, 10, 0, 0)
_FOCUS_M = 1.5
_FOCUS_STEP = 1e-4  # of the image distance: 200 steps are 2 % of focus breathing
_MAX_STEPS = 300
_REFERENCE_F = 2.8
_APERTURE_COC_PX, _FOCUS_COC_PX = 6.0, 0.5
_METERED_EXPOSURE = (2.8, 1 / 60, 100.0)
_SHUTTERS = (
    *("30", "15", "8", "4", "2", "1", "0.8", "0.6", "0.5", "0.4", "0.3", "1/4", "1/5", "1/6", "1/8", "1/10", "1/13"),
    *("1/15", "1/20", "1/25", "1/30", "1/40", "1/50", "1/60", "1/80", "1/100", "1/125", "1/160", "1/200", "1/250"),
    *("1/320", "1/400", "1/500", "1/640", "1/800", "1/1000", "1/1250", "1/1600", "1/2000", "1/4000", "1/8000"),
)
_ISOS = tuple(str(iso) for iso in (100, 200, 400, 800, 1600, 3200, 6400, 12800))
_SWITCH_CHOICES = {
    "capturetarget": ("Internal RAM", "Memory card"),
    "imagequality": ("RAW", "RAW+JPEG"),
    "autofocus": ("On", "Off"),
    "exposuredelaymode": ("Off", "1s"),
}


@dataclass(frozen=True, slots=True)
class _ExposedScene:
    """A scene, the factor that exposes it well at the metered settings, and the margin of its canvas."""

    scene: VirtualScene
    exposure: float
    margin_px: int


class VirtualCamera:
    """A camera that renders its frames; see `capture.tether.camera.Camera`.

    Args:
        seed: Seed of its scenes.
        config: Sensor and lens.
        faults: Faults by the number of the capture since the camera was created, from 1: `busy` (once), `lost`
            (before the shutter), `lost after` (the frame is on the card, the connection lost), `refused` or `full`.
    """

    model = DETECTED.model
    keeps_focus = False

    def __init__(
        self, seed: int = 0, config: SimulateConfig | None = None, faults: Mapping[int, str] | None = None
    ) -> None:
        self._seed = seed
        self._config = config or SimulateConfig(exposure_error_ev=0, max_shift_px=0)
        openings = [stop for stop in lens.THIRD_STOPS if self._config.f_number_min <= stop <= self._config.f_number_max]
        self._choices = {
            "f-number": tuple(f"f/{stop:g}" for stop in openings),
            "shutterspeed": _SHUTTERS,
            "iso": _ISOS,
            **_SWITCH_CHOICES,
        }
        self._values = {"f-number": "f/2.8", "shutterspeed": "1/60", "iso": "100"}
        self._values |= {name: choices[0] for name, choices in _SWITCH_CHOICES.items()}
        self._focus = 0
        self._card: dict[str, bytes] = {}
        self._faults = dict(faults or {})
        self._captures = 0
        self._number = 0
        self._lost = False
        self._shot: PlannedShot | None = None

    def announce(self, shot: PlannedShot) -> None:
        """Selects the scene of `shot`; a new scene starts with the lens in its initial position."""
        if self._shot is not None and self._shot.scene != shot.scene:
            self._focus = 0
        self._shot = shot

    def settings(self) -> tuple[Setting, ...]:
        """Exposure, card, switches and the focus drive."""
        return tuple(setting for name in (*self._values, "manualfocusdrive") if (setting := self.setting(name)))

    def setting(self, name: str) -> Setting | None:
        """One setting; None if there is none of that name."""
        self._check_connected()
        if name == "manualfocusdrive":
            return Setting(name, name, f"{self._focus}", span=(-_MAX_STEPS, _MAX_STEPS, 1), folder="actions")
        if name not in self._values:
            return None
        return Setting(name, name, self._values[name], self._choices[name], folder="capturesettings")

    def set_value(self, name: str, value: str) -> None:
        """Sets one of the choices."""
        self._check_connected()
        if value not in self._choices.get(name, ()):
            raise CameraError(f"{self.model} does not offer {name} = {value!r}", hint="see sdd capture cameras")
        self._values[name] = value

    def capture(self, timeout_s: float) -> tuple[str, ...]:
        """Renders the announced frame onto the card."""
        self._check_connected()
        if self._shot is None:
            raise ValueError("announce a frame before it is captured")
        self._captures += 1
        fault = self._faults.pop(self._captures, None)
        if fault == "busy":
            raise CameraBusyError("the camera is busy", hint="wait")
        if fault == "refused":
            raise CameraRefusedError("the camera refused", hint="autofocus off?")
        if fault == "full":
            raise CameraFullError("the camera's card is full", hint="empty it and run the same command again to resume")
        self._lost = fault in ("lost", "lost after")
        paths: list[str] = []
        if fault != "lost":
            paths = self._expose(self._shot)
        self._check_connected()
        return tuple(paths)

    def list_files(self) -> tuple[str, ...]:
        """The files on the card."""
        self._check_connected()
        return tuple(sorted(self._card))

    def download(self, path: str) -> bytes:
        """The content of a file on the card."""
        self._check_connected()
        if path not in self._card:
            raise CameraError(f"the card holds no {path}", hint="it was deleted")
        return self._card[path]

    def delete(self, path: str) -> None:
        """Deletes a file on the card."""
        self._check_connected()
        del self._card[path]

    def drive_focus(self, steps: int) -> None:
        """Moves the lens; each step shortens the image distance by 0.01 %, so the focus moves away from the camera."""
        self._check_connected()
        if abs(self._focus + steps) > _MAX_STEPS:
            raise CameraError(
                f"the lens is at its stop: {self._focus + steps} steps from its start",
                hint=f"it goes {_MAX_STEPS} steps either way",
            )
        self._focus += steps

    def close(self) -> None:
        """Ends the connection; the next one finds the camera again, with the lens in its initial position."""
        self._lost, self._focus = False, 0

    def _check_connected(self) -> None:
        if self._lost:
            raise CameraLostError("the camera is gone", hint="run the same command again to resume")

    def _expose(self, shot: PlannedShot) -> list[str]:
        """Writes the frame's files to the card; returns their paths."""
        self._number += 1
        stem = f"{_CARD}/SDD_{self._number:04d}"
        linear, raw = self._render(shot)
        self._card[f"{stem}.DNG"] = raw
        if self._values["imagequality"] == "RAW":
            return [f"{stem}.DNG"]
        self._card[f"{stem}.JPG"] = _encode_jpeg(linear)
        return [f"{stem}.DNG", f"{stem}.JPG"]

    def _render(self, shot: PlannedShot) -> tuple[NDArray[np.float32], bytes]:
        """(H, W, 3) linear sRGB of the frame, and its DNG file."""
        f_number = parse_f_number(self._values["f-number"]) or _REFERENCE_F
        shutter_s = parse_shutter_s(self._values["shutterspeed"]) or 1.0
        iso = int(self._values["iso"])
        start_mm = lens.image_distance_mm(self._config.focal_mm, _FOCUS_M)
        image_mm = start_mm * (1 - _FOCUS_STEP * self._focus)
        exposure = VirtualShot(f_number, lens.focus_distance_m(self._config.focal_mm, image_mm), image_mm)
        light = _relative_light(f_number, shutter_s, iso)
        scene = _build_scene(self._config, self._seed, shot.scene, shot.kind, start_mm)
        linear = _render_linear(scene, self._config, exposure, start_mm) * np.float32(light)
        config = self._config.model_copy(update={"iso": iso})
        noise = np.random.default_rng([self._seed, _hash_number(shot.stem), self._focus + _MAX_STEPS])
        taken_at = _FIRST_SHOT_AT + timedelta(seconds=5 * shot.index)
        tags = sensor.raw_tags(config, exposure, shutter_s, taken_at)
        return linear, dng.encode(sensor.expose(linear, config, noise), tags)


def _encode_jpeg(linear: NDArray[np.float32]) -> bytes:
    codes = np.rint(255 * srgb_encode(np.clip(linear, 0, 1))).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", codes[..., ::-1])[1])


def _relative_light(f_number: float, shutter_s: float, iso: float) -> float:
    """Exposure relative to the metered settings."""
    metered_f, metered_s, metered_iso = _METERED_EXPOSURE
    return (metered_f / f_number) ** 2 * (shutter_s / metered_s) * (iso / metered_iso)


def _render_linear(
    scene: _ExposedScene, config: SimulateConfig, shot: VirtualShot, start_mm: float
) -> NDArray[np.float32]:
    """(H, W, 3) linear sRGB of the scene through the lens, at the metered exposure."""
    margin = scene.margin_px
    depths = np.array([surface.inverse_depth for surface in scene.scene.surfaces])
    zoom = start_mm / shot.image_mm
    canvas = compositing.composite(scene.scene, (np.abs(shot.signed_radius_px(depths, config)) * zoom).tolist())
    if shot.image_mm == start_mm:
        frame = canvas[margin : margin + config.height, margin : margin + config.width]
    else:
        centre = np.array([(config.width - 1) / 2, (config.height - 1) / 2])
        to_frame = np.array([[1 / zoom, 0, 0], [0, 1 / zoom, 0], [0, 0, 1]])
        to_frame[:2, 2] = centre - (centre + margin) / zoom
        frame = np.maximum(resampling.warp(canvas, to_frame, config.size), 0)
    shade = lens.vignetting(
        config.size,
        image_mm=shot.image_mm,
        pitch_mm=config.pitch_mm,
        f_number=shot.f_number,
        f_number_min=config.f_number_min,
        strength=config.vignetting,
    )
    light = np.asarray(frame * shade[..., None] * np.float32(scene.exposure), dtype=np.float32)
    return sensor.optical_low_pass(light, config.optical_low_pass_px)


@lru_cache(maxsize=2)
def _build_scene(config: SimulateConfig, seed: int, name: str, kind: str, start_mm: float) -> _ExposedScene:
    """The scene called `name`, the same in every process.

    An aperture scene is deep (6 px of blur at f/2.8), a focus scene shallow, so that its first frame is sharp.
    """
    coc_px = _APERTURE_COC_PX if kind == "aperture" else _FOCUS_COC_PX
    reach = coc_px * 2 * _REFERENCE_F * config.pitch_mm / config.focal_mm
    near, far = (
        1000.0 * (1 / config.focal_mm - (1 + sign * reach) / start_mm) for sign in (-1.0, 1.0)
    )  # fmt: skip
    margin = 64 + round(0.04 * max(config.size))
    canvas = (config.height + 2 * margin, config.width + 2 * margin)
    rng = np.random.default_rng([seed, _hash_number(name)])
    scene = dead_leaves(canvas, config.size, near, max(far, 0.0), rng)
    return _ExposedScene(scene, sensor.metered_exposure(compositing.composite(scene), config), margin)


def _hash_number(text: str) -> int:
    """A number from the hash of `text`, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
