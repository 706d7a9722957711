"""Translates a planned frame into the settings of this camera: its names, its spelling, equal exposure."""

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
    """The settings of one frame.

    Attributes:
        settings: (setting, choice) in the order in which they are set.
        exposure: The same as numbers, as far as they are known.
        residual_ev: By how many stops the chosen time is longer than that of equal exposure; None if it is not set.
        warnings: Deviations from the plan.
    """

    settings: tuple[tuple[Setting, str], ...]
    exposure: Exposure
    residual_ev: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shutter:
    """The shutter part of `FrameSettings`; empty where the time is not set."""

    settings: tuple[tuple[Setting, str], ...] = ()
    time_s: float | None = None
    residual_ev: float | None = None
    warnings: tuple[str, ...] = ()


def resolve_settings(camera: Camera, shot: PlannedShot, start_s: float | None) -> FrameSettings:
    """The settings of `camera` for `shot`; settings are read, nothing is set.

    Args:
        camera: The camera.
        shot: The frame.
        start_s: Shutter time at the session's start, for plans without one; None if the camera has none.

    Raises:
        CameraError: The camera lacks a setting that the plan demands, or does not offer the value.
    """
    settings: list[tuple[Setting, str]] = []
    if shot.f_number is not None:
        aperture = require_setting(camera, F_NUMBER)
        settings.append((aperture, match_choice(aperture, f"f/{shot.f_number:g}", camera.model)))
    if shot.iso is not None:
        iso = require_setting(camera, ISO)
        settings.append((iso, match_choice(iso, f"{shot.iso:g}", camera.model)))
    shutter = _resolve_shutter(camera, shot, start_s)
    exposure = Exposure(f_number=shot.f_number, iso=shot.iso, shutter_s=shutter.time_s)
    return FrameSettings((*settings, *shutter.settings), exposure, shutter.residual_ev, shutter.warnings)


def check_shots(camera: Camera, shots: Iterable[PlannedShot], start_s: float | None) -> None:
    """Checks before the first frame that the camera can take all of `shots`.

    Raises:
        CameraError: It cannot.
    """
    distinct = {(shot.f_number, shot.first_f_number, shot.shutter_s, shot.iso, shot.kind): shot for shot in shots}
    for shot in distinct.values():
        resolve_settings(camera, shot, start_s)
        if shot.focus_steps is not None:
            require_setting(camera, FOCUS_DRIVE)


def read_shutter_s(camera: Camera) -> float | None:
    """The current shutter time of the camera in seconds; None if it has none."""
    setting = find_setting(camera, SHUTTER)
    return None if setting is None else setting_number(setting)


def apply_session_settings(
    camera: Camera, settings: dict[str, str | bool | int | float], mirror_up: bool, timeout_s: float
) -> None:
    """Applies the settings of a whole session, and reads each back.

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


def _resolve_shutter(camera: Camera, shot: PlannedShot, start_s: float | None) -> _Shutter:
    base_s = shot.shutter_s or (start_s if shot.kind == "aperture" else None)
    setting = find_setting(camera, SHUTTER)
    settable = setting is not None and not setting.read_only
    if not settable and shot.shutter_s is not None:
        read_only = require_setting(camera, SHUTTER)
        raise CameraError(
            f"{camera.model} does not let {read_only.name} be set: it is {read_only.value!r}",
            hint="turn the camera to M, or leave shutter out of the plan",
        )
    if setting is None or not settable or base_s is None:
        unequal = shot.kind == "aperture" and shot.f_number != shot.first_f_number
        warning = "this camera does not let the shutter be set: the exposures of the pair differ"
        return _Shutter(warnings=(warning,) if unequal else ())
    return _choose_shutter(camera, setting, shot, base_s)


def _choose_shutter(camera: Camera, setting: Setting, shot: PlannedShot, base_s: float) -> _Shutter:
    """The offered time nearest to equal exposure with `base_s` at the pair's first aperture."""
    target_s = base_s
    if shot.f_number is not None and shot.first_f_number is not None:
        target_s = equal_exposure_s(base_s, shot.first_f_number, shot.f_number)
    nearest = nearest_choice(setting, target_s)
    is_planned = shot.shutter_s is not None and shot.f_number == shot.first_f_number
    if nearest is None or (is_planned and abs(shutter_difference_ev(nearest[1], target_s)) > _REFUSED_EV):
        match_choice(setting, format_shutter(target_s), camera.model)  # its message lists the offered times
        raise CameraError(f"{camera.model} offers no shutter times", hint="turn the camera to M")
    choice, time_s = nearest
    residual_ev = shutter_difference_ev(time_s, target_s)
    warnings: tuple[str, ...] = ()
    if abs(residual_ev) > _WARNED_EV:
        warnings = (
            f"shutter {choice} is {residual_ev:+.2f} EV off the wanted {format_shutter(target_s)} s; none is nearer",
        )
    return _Shutter(((setting, choice),), time_s, round(residual_ev, 4), warnings)
