"""The camera interface of a session, and reliable settings on top of it.

Drivers name and spell settings differently, apply them late, or are busy. `set_and_confirm` sets a value, reads it back
and compares both as numbers, repeatedly with growing pauses, until the camera has the value or the time is up.
"""

from __future__ import annotations

import difflib
import math
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol, TypeVar

from capture.tether import exposure
from capture.tether.exposure import parse_f_number, parse_number, parse_shutter_s
from sdd_toolkit.errors import CameraError
from sdd_toolkit.formats.containers import RAW_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capture.tether.plan import PlannedShot

T = TypeVar("T")

F_NUMBER = ("f-number", "aperture")
SHUTTER = ("shutterspeed2", "shutterspeed")
ISO = ("iso",)
FOCUS_DRIVE = ("manualfocusdrive",)
EXPOSURE_DELAY = ("exposuredelaymode", "mirrorlock", "mirrorup")

_EQUAL_EV = 0.1
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.05, 2.0
_NAMES_SHOWN = 24
_OFF_CHOICES = frozenset({"off", "0", "false", "none", "no", "disabled"})


class CameraBusyError(CameraError):
    """The camera is busy; the same request may succeed a moment later."""


class CameraLostError(CameraError):
    """The connection is lost; a new one may find the camera again."""


class CameraRefusedError(CameraError):
    """The camera refused without a reason; a new connection may help."""


class CameraFullError(CameraError):
    """The camera's card is full."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a camera.

    Attributes:
        name: The driver's name.
        label: The name shown to the photographer.
        value: Its value as text.
        choices: Its possible values; empty where any text or number is accepted.
        read_only: Whether it can only be read.
        folder: Its folder in the camera's tree of settings, such as `capturesettings`.
        span: (lowest, highest, step) of a number; None for other settings.
    """

    name: str
    label: str
    value: str
    choices: tuple[str, ...] = ()
    read_only: bool = False
    folder: str = ""
    span: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class DetectedCamera:
    """A connected camera: its model, its port, and the driver that serves it."""

    model: str
    port: str
    driver: str


class Camera(Protocol):
    """A connected camera. All methods raise `CameraError` or one of its subclasses above."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def keeps_focus(self) -> bool:
        """Whether the lens keeps its focus when the connection ends."""

    def announce(self, shot: PlannedShot) -> None:
        """Names the next frame, from which a virtual camera renders its scene; others ignore it."""

    def settings(self) -> tuple[Setting, ...]:
        """Every setting with its value and choices."""

    def setting(self, name: str) -> Setting | None:
        """One setting, read anew; None if the camera has none of that name."""

    def set_value(self, name: str, value: str) -> None:
        """Sets `name` to one of its choices, a number in its span, or a text."""

    def capture(self, timeout_s: float) -> tuple[str, ...]:
        """Takes a frame and waits for its files; returns their paths on the camera, RAW first."""

    def list_files(self) -> tuple[str, ...]:
        """Paths of all files on the camera, sorted."""

    def download(self, path: str) -> bytes:
        """The content of a file on the camera."""

    def delete(self, path: str) -> None:
        """Deletes a file on the camera."""

    def drive_focus(self, steps: int) -> None:
        """Moves the focus by `steps`; positive is away from the camera, where the driver has directions."""

    def close(self) -> None:
        """Ends the connection; does nothing if it has ended already."""


def retry(action: Callable[[], T], timeout_s: float) -> T:
    """Calls `action`, and repeats it with doubling pauses while the camera is busy, for at most `timeout_s`.

    Raises:
        CameraBusyError: The camera is still busy when the time is up.
    """
    deadline, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except CameraBusyError:
            if time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_PAUSE_S)


def find_setting(camera: Camera, names: Sequence[str]) -> Setting | None:
    """The first of `names` that the camera has."""
    return next((setting for name in names if (setting := camera.setting(name)) is not None), None)


def require_setting(camera: Camera, names: Sequence[str]) -> Setting:
    """The first of `names` that the camera has.

    Raises:
        CameraError: It has none of them; the message lists its settings, nearest names first.
    """
    setting = find_setting(camera, names)
    if setting is not None:
        return setting
    available = [setting.name for setting in camera.settings() if not setting.read_only]
    nearest = sorted(available, key=lambda name: -difflib.SequenceMatcher(None, name, names[0]).ratio())
    raise CameraError(
        f"{camera.model} has no setting {' or '.join(map(repr, names))}",
        hint=f"it has {join_names(nearest)}; see sdd capture cameras --settings",
    )


def match_choice(setting: Setting, asked: str, model: str) -> str:
    """The choice of `setting` that means `asked`, in the camera's spelling.

    Raises:
        CameraError: It cannot be set, or is not offered; the message lists the choices, nearest first.
    """
    if setting.read_only:
        raise CameraError(
            f"{model} does not let {setting.name} be set: it is {setting.value!r}",
            hint="set it on the camera itself, or leave it out of the plan",
        )
    if setting.span is not None:
        low, high, _ = setting.span
        number = parse_number(asked)
        if number is None or not low <= number <= high:
            raise _not_offered_error(setting, asked, model, f"{low:g} … {high:g}")
        return asked
    if not setting.choices or asked in setting.choices:
        return asked
    equal = [choice for choice in setting.choices if is_same_value(setting.name, choice, asked)]
    if not equal:
        raise _not_offered_error(setting, asked, model, join_names(sort_by_distance(setting, asked)))
    return equal[0]


def sort_by_distance(setting: Setting, asked: str) -> list[str]:
    """The choices of `setting`, those nearest to `asked` first."""
    parse = _parser(setting.name)
    target = parse(asked)

    def distance(choice: str) -> tuple[float, float]:
        number = parse(choice)
        stops = abs(math.log2(number / target)) if number and target and number * target > 0 else math.inf
        return stops, -difflib.SequenceMatcher(None, choice.casefold(), asked.casefold()).ratio()

    return sorted(setting.choices, key=distance)


def is_same_value(name: str, value: str, other: str) -> bool:
    """Whether two spellings mean the same value of the setting `name`."""
    if value.strip().casefold() == other.strip().casefold():
        return True
    parse = _parser(name)
    numbers = parse(value), parse(other)
    if numbers[0] is None or numbers[1] is None:
        return False
    if name in (*F_NUMBER, *SHUTTER):
        stops = abs(math.log2(numbers[0] / numbers[1])) * (2 if name in F_NUMBER else 1)
        return stops < _EQUAL_EV
    return math.isclose(numbers[0], numbers[1], rel_tol=1e-6, abs_tol=1e-9)


def set_and_confirm(camera: Camera, setting: Setting, value: str, timeout_s: float) -> str:
    """Sets `setting` to `value`, one of its choices, and returns the value read back from the camera.

    Raises:
        CameraError: The camera does not take it within `timeout_s`.
    """
    deadline, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    while True:
        current = retry(lambda: camera.setting(setting.name), timeout_s)
        if current is not None and is_same_value(setting.name, current.value, value):
            return current.value
        if time.monotonic() + pause_s > deadline:
            actual = current.value if current else None
            raise CameraError(
                f"{camera.model} does not take {setting.name} = {value!r}: it says {actual!r}",
                hint="is the camera in manual mode (M), the lens in its automatic aperture position?",
            )
        retry(lambda: camera.set_value(setting.name, value), timeout_s)
        current = retry(lambda: camera.setting(setting.name), timeout_s)
        if current is not None and is_same_value(setting.name, current.value, value):
            return current.value
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_PAUSE_S)


def switch_choice(setting: Setting, *, on: bool) -> str:
    """The first choice of `setting` that means on, or off; `1` and `0` where it has no choices."""
    choices = (choice for choice in setting.choices if (choice.strip().casefold() not in _OFF_CHOICES) == on)
    return next(choices, str(int(on)))


def nearest_choice(setting: Setting, value: float) -> tuple[str, float] | None:
    """The choice of an exposure setting nearest to `value`, and its number; None where no choice is a number."""
    return exposure.nearest_choice(value, setting.choices or (setting.value,), _parser(setting.name))


def setting_number(setting: Setting) -> float | None:
    """The current value of a setting as a number; None if it is none."""
    return _parser(setting.name)(setting.value)


def sort_raw_first(paths: Sequence[str]) -> list[str]:
    """`paths` with RAW files before all others, otherwise in the same order."""
    return sorted(paths, key=lambda path: PurePosixPath(path).suffix.lower() not in RAW_SUFFIXES)


def join_names(names: Sequence[str], shown: int = _NAMES_SHOWN) -> str:
    """The first `shown` names, and the number of the others.

    >>> join_names(["iso", "f-number", "shutterspeed"], shown=2)
    'iso, f-number and 1 more'
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more if names else "nothing that can be set"


def _not_offered_error(setting: Setting, asked: str, model: str, offer: str) -> CameraError:
    return CameraError(f"{model} does not offer {setting.name} = {asked!r}", hint=f"it offers {offer}")


def _parser(name: str) -> Callable[[str], float | None]:
    if name in F_NUMBER:
        return parse_f_number
    if name in SHUTTER:
        return parse_shutter_s
    return parse_number
