"""From a planned frame to what this camera is to be set to: its own names, its own spelling, equal exposure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from capture.tether.camera import (
    EXPOSURE_DELAY,
    F_NUMBER,
    FOCUS_DRIVE,
    ISO,
    SHUTTER,
    find_setting,
    match_choice,
    nearest_choice,
    require_setting,
    set_and_confirm,
    setting_number,
    switch_choice,
)
from capture.tether.exposure import equal_exposure_s, format_shutter, shutter_difference_ev
from sdd_toolkit.errors import CameraError
from sdd_toolkit.records import Exposure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from capture.tether.camera import Camera, Setting
    from capture.tether.plan import PlannedShot

_REFUSED_EV = 0.5
_WARNED_EV = 0.17


@dataclass(frozen=True, slots=True)
class FrameSettings:
    """What to set for one frame.

    Attributes:
        settings: (setting, choice) in the order they are set.
        exposure: The same as numbers, as far as they are known.
        residual_ev: By how much the chosen time is longer than that of equal exposure; None if it is left alone.
        warnings: What could not be had exactly.
    """

    settings: tuple[tuple[Setting, str], ...]
    exposure: Exposure
    residual_ev: float | None = None
    warnings: tuple[str, ...] = ()


def resolve_settings(camera: Camera, shot: PlannedShot, start_s: float | None) -> FrameSettings:
    """What `camera` is to be set to for `shot`.

    Args:
        camera: Its settings are read, nothing is set.
        shot: The frame.
        start_s: Time the session started from, for plans that name none; None if the camera tells none.

    Raises:
        CameraError: The camera lacks a setting that the plan demands, or does not offer the value.
    """
    settings: list[tuple[Setting, str]] = []
    if shot.f_number is not None:
        opening = require_setting(camera, F_NUMBER)
        settings.append((opening, match_choice(opening, f"f/{shot.f_number:g}", camera.model)))
    if shot.iso is not None:
        sensitivity = require_setting(camera, ISO)
        settings.append((sensitivity, match_choice(sensitivity, f"{shot.iso:g}", camera.model)))
    shutter, shutter_s, residual_ev, warnings = _resolve_shutter(camera, shot, start_s)
    exposure = Exposure(f_number=shot.f_number, iso=shot.iso, shutter_s=shutter_s)
    return FrameSettings((*settings, *shutter), exposure, residual_ev, warnings)


def check_shots(camera: Camera, shots: Iterable[PlannedShot], start_s: float | None) -> None:
    """Finds out before the first frame whether the camera can do all of `shots`.

    Raises:
        CameraError: It cannot.
    """
    different = {(shot.f_number, shot.first_f_number, shot.shutter_s, shot.iso, shot.kind): shot for shot in shots}
    for shot in different.values():
        resolve_settings(camera, shot, start_s)
        if shot.focus_steps is not None:
            require_setting(camera, FOCUS_DRIVE)


def read_shutter_s(camera: Camera) -> float | None:
    """The shutter time the camera is set to; None if it tells none."""
    setting = find_setting(camera, SHUTTER)
    return None if setting is None else setting_number(setting)


def apply_session_settings(
    camera: Camera, settings: dict[str, str | bool | int | float], mirror_up: bool, timeout_s: float
) -> None:
    """Sets what is set once for a whole session, each read back.

    Raises:
        CameraError: The camera lacks a setting, does not offer a value or does not take it.
    """
    for name, value in settings.items():
        setting = require_setting(camera, (name,))
        text = f"{value:g}" if isinstance(value, float) else str(value)
        text = switch_choice(setting, on=value) if isinstance(value, bool) else text
        set_and_confirm(camera, setting, match_choice(setting, text, camera.model), timeout_s)
    if mirror_up:
        setting = require_setting(camera, EXPOSURE_DELAY)
        set_and_confirm(camera, setting, switch_choice(setting, on=True), timeout_s)


def _resolve_shutter(
    camera: Camera, shot: PlannedShot, start_s: float | None
) -> tuple[tuple[tuple[Setting, str], ...], float | None, float | None, tuple[str, ...]]:
    base_s = shot.shutter_s or (start_s if shot.kind == "aperture" else None)
    setting = find_setting(camera, SHUTTER)
    settable = setting is not None and not setting.read_only
    if not settable and shot.shutter_s is not None:
        settled = require_setting(camera, SHUTTER)
        raise CameraError(
            f"{camera.model} does not let {settled.name} be set: it is {settled.value!r}",
            hint="turn the camera to M, or leave shutter out of the plan",
        )
    if setting is None or not settable or base_s is None:
        lacking = shot.kind == "aperture" and shot.f_number != shot.first_f_number
        word = "this camera does not let the shutter be set: the exposures of the pair differ"
        return (), None, None, (word,) if lacking else ()
    wanted_s = base_s
    if shot.f_number is not None and shot.first_f_number is not None:
        wanted_s = equal_exposure_s(base_s, shot.first_f_number, shot.f_number)
    found = nearest_choice(setting, wanted_s)
    first = shot.shutter_s is not None and shot.f_number == shot.first_f_number
    if found is None or (first and abs(shutter_difference_ev(found[1], wanted_s)) > _REFUSED_EV):
        match_choice(setting, format_shutter(wanted_s), camera.model)  # says what is offered
        raise CameraError(f"{camera.model} tells no shutter times", hint="turn the camera to M")
    residual_ev = shutter_difference_ev(found[1], wanted_s)
    warnings: tuple[str, ...] = ()
    if abs(residual_ev) > _WARNED_EV:
        warnings = (
            f"shutter {found[0]} is {residual_ev:+.2f} EV off the wanted {format_shutter(wanted_s)} s; none is nearer",
        )
    return ((setting, found[0]),), found[1], round(residual_ev, 4), warnings
