"""The virtual camera behind the protocol of real ones: a rehearsal of a session without hardware.

It stands before one dead-leaves scene for each scene of the plan, holds settings as libgphoto2 would tell them and
answers with DNG files. A frame depends on the seed, the plan's frame, the settings and the focus, not on what was shot
before: a session that was interrupted ends in the bytes of one that was not.
"""

from __future__ import annotations

import hashlib
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
from capture.virtual.plan import VirtualShot as Optics
from capture.virtual.scene import VirtualScene, dead_leaves
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
_METERED = (2.8, 1 / 60, 100.0)
_SHUTTERS = (
    *("30", "15", "8", "4", "2", "1", "0.8", "0.6", "0.5", "0.4", "0.3", "1/4", "1/5", "1/6", "1/8", "1/10", "1/13"),
    *("1/15", "1/20", "1/25", "1/30", "1/40", "1/50", "1/60", "1/80", "1/100", "1/125", "1/160", "1/200", "1/250"),
    *("1/320", "1/400", "1/500", "1/640", "1/800", "1/1000", "1/1250", "1/1600", "1/2000", "1/4000", "1/8000"),
)
_ISOS = tuple(str(iso) for iso in (100, 200, 400, 800, 1600, 3200, 6400, 12800))
_SWITCHES = {
    "capturetarget": ("Internal RAM", "Memory card"),
    "imagequality": ("RAW", "RAW+JPEG"),
    "autofocus": ("On", "Off"),
    "exposuredelaymode": ("Off", "1s"),
}


class VirtualCamera:
    """A camera in a world of its own; see `capture.tether.camera.Camera`.

    Args:
        seed: Seed of its scenes.
        config: Sensor and lens.
        faults: What goes wrong, by the number of the capture since it was made, from 1: `busy` (once), `lost` (before
            the shutter), `lost after` (the frame is on the card, the connection gone), `refused` or `full`.
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
            **_SWITCHES,
        }
        self._values = {"f-number": "f/2.8", "shutterspeed": "1/60", "iso": "100"}
        self._values |= {name: choices[0] for name, choices in _SWITCHES.items()}
        self._focus = 0
        self._card: dict[str, bytes] = {}
        self._faults = dict(faults or {})
        self._captures = 0
        self._number = 0
        self._lost = False
        self._shot: PlannedShot | None = None

    def announce(self, shot: PlannedShot) -> None:
        """Carries the camera before the scene of `shot`; a new scene has the lens at its start."""
        if self._shot is not None and self._shot.scene != shot.scene:
            self._focus = 0
        self._shot = shot

    def settings(self) -> tuple[Setting, ...]:
        """Exposure, card, switches and the focus drive."""
        return tuple(found for name in (*self._values, "manualfocusdrive") if (found := self.setting(name)))

    def setting(self, name: str) -> Setting | None:
        """One setting; None if there is none of that name."""
        self._reach()
        if name == "manualfocusdrive":
            return Setting(name, name, f"{self._focus}", span=(-_MAX_STEPS, _MAX_STEPS, 1), folder="actions")
        if name not in self._values:
            return None
        return Setting(name, name, self._values[name], self._choices[name], folder="capturesettings")

    def set_value(self, name: str, value: str) -> None:
        """Sets one of the choices."""
        self._reach()
        if value not in self._choices.get(name, ()):
            raise CameraError(f"{self.model} does not offer {name} = {value!r}", hint="see sdd capture cameras")
        self._values[name] = value

    def capture(self, timeout_s: float) -> tuple[str, ...]:
        """Renders the announced frame onto the card."""
        self._reach()
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
        self._reach()
        return tuple(paths)

    def list_files(self) -> tuple[str, ...]:
        """The files on the card."""
        self._reach()
        return tuple(sorted(self._card))

    def download(self, path: str) -> bytes:
        """One of them."""
        self._reach()
        if path not in self._card:
            raise CameraError(f"the card holds no {path}", hint="it was deleted")
        return self._card[path]

    def delete(self, path: str) -> None:
        """Deletes one of them."""
        self._reach()
        del self._card[path]

    def drive_focus(self, steps: int) -> None:
        """Moves the lens; each step brings the image plane 0.01 % nearer, so the focus goes away from the camera."""
        self._reach()
        if abs(self._focus + steps) > _MAX_STEPS:
            raise CameraError(
                f"the lens is at its stop: {self._focus + steps} steps from its start",
                hint=f"it goes {_MAX_STEPS} steps either way",
            )
        self._focus += steps

    def close(self) -> None:
        """The next connection finds it again, the lens where it was at first."""
        self._lost, self._focus = False, 0

    def _reach(self) -> None:
        if self._lost:
            raise CameraLostError("the camera is gone", hint="run the same command again to resume")

    def _expose(self, shot: PlannedShot) -> list[str]:
        """Puts the frame's files on the card."""
        self._number += 1
        stem = f"{_CARD}/SDD_{self._number:04d}"
        linear, raw = self._frame(shot)
        self._card[f"{stem}.DNG"] = raw
        if self._values["imagequality"] == "RAW":
            return [f"{stem}.DNG"]
        self._card[f"{stem}.JPG"] = _encode_jpeg(linear)
        return [f"{stem}.DNG", f"{stem}.JPG"]

    def _frame(self, shot: PlannedShot) -> tuple[NDArray[np.float32], bytes]:
        f_number = parse_f_number(self._values["f-number"]) or _REFERENCE_F
        shutter_s = parse_shutter_s(self._values["shutterspeed"]) or 1.0
        iso = int(self._values["iso"])
        start_mm = lens.image_distance_mm(self._config.focal_mm, _FOCUS_M)
        image_mm = start_mm * (1 - _FOCUS_STEP * self._focus)
        optics = Optics(f_number, lens.focus_distance_m(self._config.focal_mm, image_mm), image_mm)
        light = _relative_light(f_number, shutter_s, iso)
        linear = _render_linear(self._config, self._seed, shot.scene, shot.kind, optics, start_mm) * np.float32(light)
        config = self._config.model_copy(update={"iso": iso})
        noise = np.random.default_rng([self._seed, _hash_number(shot.stem), self._focus + _MAX_STEPS])
        raw = dng.encode(sensor.expose(linear, config, noise), self._tags(config, optics, shutter_s, shot.index))
        return linear, raw

    def _tags(self, config: SimulateConfig, optics: Optics, shutter_s: float, index: int) -> dng.RawTags:
        return dng.RawTags(
            make="SDD",
            model="Virtual Camera",
            lens=f"SDD {config.focal_mm:g}mm F{config.f_number_min:g}",
            f_number=optics.f_number,
            shutter_s=shutter_s,
            iso=config.iso,
            focal_mm=config.focal_mm,
            focal_35mm=max(1, round(config.focal_mm * 36 / (config.width * config.pitch_mm))),
            focus_m=optics.focus_m,
            pitch_mm=config.pitch_mm,
            taken_at=_FIRST_SHOT_AT + timedelta(seconds=5 * index),
            cfa=config.cfa,
            black_level=config.black_level,
            white_level=config.white_level,
            neutral=sensor.NEUTRAL,
            colour_matrix=sensor.COLOUR_MATRIX,
            noise_profile=sensor.noise_profile(config),
        )


def _encode_jpeg(linear: NDArray[np.float32]) -> bytes:
    codes = np.rint(255 * srgb_encode(np.clip(linear, 0, 1))).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", codes[..., ::-1])[1])


def _relative_light(f_number: float, shutter_s: float, iso: float) -> float:
    """Light relative to the metered exposure."""
    metered_f, metered_s, metered_iso = _METERED
    return (metered_f / f_number) ** 2 * (shutter_s / metered_s) * (iso / metered_iso)


def _render_linear(
    config: SimulateConfig, seed: int, name: str, kind: str, optics: Optics, start_mm: float
) -> NDArray[np.float32]:
    """(H, W, 3) linear sRGB at the metered exposure: the scene through the lens."""
    scene, exposure, margin = _build_world(config, seed, name, kind, start_mm)
    depths = np.array([surface.inverse_depth for surface in scene.surfaces])
    zoom = start_mm / optics.image_mm
    canvas = compositing.composite(scene, (np.abs(optics.signed_radius_px(depths, config)) * zoom).tolist())
    if optics.image_mm == start_mm:
        frame = canvas[margin : margin + config.height, margin : margin + config.width]
    else:
        centre = np.array([(config.width - 1) / 2, (config.height - 1) / 2])
        to_frame = np.array([[1 / zoom, 0, 0], [0, 1 / zoom, 0], [0, 0, 1]])
        to_frame[:2, 2] = centre - (centre + margin) / zoom
        frame = np.maximum(resampling.warp(canvas, to_frame, config.size), 0)
    shade = lens.vignetting(
        config.size,
        image_mm=optics.image_mm,
        pitch_mm=config.pitch_mm,
        f_number=optics.f_number,
        f_number_min=config.f_number_min,
        strength=config.vignetting,
    )
    return np.asarray(frame * shade[..., None] * np.float32(exposure), dtype=np.float32)


@lru_cache(maxsize=2)
def _build_world(
    config: SimulateConfig, seed: int, name: str, kind: str, start_mm: float
) -> tuple[VirtualScene, float, int]:
    """The scene called `name`, the factor that exposes it well at the metered exposure, and the canvas's margin.

    An aperture scene is deep (6 px of blur at f/2.8), a focus scene shallow, so that its first frame is sharp.
    """
    coc_px = _APERTURE_COC_PX if kind == "aperture" else _FOCUS_COC_PX
    reach = coc_px * 2 * _REFERENCE_F * config.pitch_mm / config.focal_mm
    near, far = (
        1000.0 * (1 / config.focal_mm - (1 + sign * reach) / start_mm) for sign in (-1.0, 1.0)
    )  # fmt: skip
    margin = 64 + round(0.04 * max(config.size))
    canvas = (config.height + 2 * margin, config.width + 2 * margin)
    chance = np.random.default_rng([seed, _hash_number(name)])
    scene = dead_leaves(canvas, config.size, near, max(far, 0.0), chance)
    bright = float(np.quantile(compositing.composite(scene)[::4, ::4].max(axis=2), 0.995))
    return scene, config.highlight_level / max(bright, 1e-6), margin


def _hash_number(text: str) -> int:
    """A number that is the same for the same text in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
