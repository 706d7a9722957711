"""The tables of a shooting plan: keys, defaults and checks of `[camera]`, `[session]`, `[check]` and the scenes."""

from __future__ import annotations

import re
from string import Formatter
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from capture.tether.exposure import parse_f_number, parse_number, parse_shutter_s
from sdd_toolkit.config import Section
from sdd_toolkit.errors import ManifestError
from sdd_toolkit.storage.files import check_relative

_SCENE_NAME = re.compile(r"^\w[\w .-]*$")
_NAMING_FIELDS = ("scene", "role", "repeat")


class CameraTable(Section):
    """Table `[camera]`: the camera, and its settings for the whole session."""

    driver: Literal["gphoto2", "virtual"] = "gphoto2"
    """`gphoto2`: any camera that libgphoto2 supports; `virtual`: the one of `sdd capture simulate`, for rehearsals."""
    model: str | None = None
    """Part of the model's name; None takes the first camera."""
    port: str | None = None
    """Port such as `usb:001,005`, where several cameras of a model are connected."""
    settings: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """Settings by the camera's own names, see `sdd capture cameras --settings`; set once, each read back."""
    seed: int = Field(default=0, ge=0)
    """Seed of the virtual camera's scenes."""


class SessionTable(Section):
    """Table `[session]`: folder, names and timing of the frames."""

    out: str = "session"
    """Folder of the session, relative to the plan."""
    scenes: int = Field(default=0, ge=0, le=9999)
    """Number of scenes shot by `[defaults]`: scene-0001, scene-0002 … `[[scene]]` adds or alters one."""
    naming: str = "{scene}/{role}"
    """Path of a frame without its extension; `{scene}`, `{role}` and `{repeat}` are replaced."""
    repeats: int = Field(default=1, ge=1, le=999)
    """Number of times that each frame is taken."""
    settle_s: float = Field(default=1.0, ge=0, le=600)
    """Pause after a change of settings or focus, until vibrations have died down."""
    timer_s: float = Field(default=0.0, ge=0, le=600)
    """Self-timer of the computer: pause before every single frame."""
    mirror_up: bool = False
    """Switches on the camera's own exposure delay (mirror up first, then the shutter)."""
    scene_pause_s: float = Field(default=0.0, ge=0, le=3600)
    """Pause before every scene of an unattended session (`--yes`, scripts)."""
    retries: int = Field(default=3, ge=0, le=100)
    """Number of attempts to restore a lost connection before the session stops."""
    timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """Longest wait for a busy camera, a setting or a frame."""
    exif: Literal["warn", "strict", "off"] = "warn"
    """A frame whose EXIF contradicts the settings: a warning, an error, or not checked."""
    delete_from_camera: bool = False
    """Deletes a frame on the camera once it is safe on the disk."""

    @field_validator("naming")
    @classmethod
    def _check_naming(cls, value: str) -> str:
        try:
            names = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
            check_relative(value, "naming")
        except (ValueError, ManifestError) as error:
            raise ValueError(f"is no pattern for a path below the session's folder: {error}") from error
        if not names <= set(_NAMING_FIELDS) or not {"scene", "role"} <= names:
            raise ValueError("must hold {scene} and {role}, may hold {repeat}, and nothing else in braces")
        return value


class CheckTable(Section):
    """Table `[check]`: limits of the check after each shot; a frame that fails can be repeated, and is kept."""

    enabled: bool = True
    """Whether frames are checked."""
    max_clipped_fraction: float = Field(default=0.05, ge=0, le=1)
    """More saturated pixels: over-exposed."""
    min_level: float = Field(default=0.02, ge=0, le=1)
    """Bright parts (linear, 99.5th percentile) below this: under-exposed."""
    max_exposure_ev: float = Field(default=0.5, ge=0)
    """Larger difference of brightness between the two frames of a pair."""
    min_sharpness_gain: float = Field(default=1.05, ge=0)
    """Smaller median gain in fine detail: the sharp frame is hardly sharper."""


class Defaults(Section):
    """Table `[defaults]`: the frames of every scene that does not say otherwise."""

    kind: Literal["aperture", "focus"] = "aperture"
    """The setting that changes between the frames of a pair."""
    apertures: tuple[str, ...] = ()
    """f-numbers of an aperture pair; the largest number is the sharp frame, all others are blurred ones."""
    aperture: str | None = None
    """f-number of both frames of a focus pair; None leaves the lens as it is."""
    focus_steps: tuple[int, ...] = ()
    """Positions of the frames of a focus pair, in steps of the camera's focus drive from the position at the scene's
    start; the first is the sharp frame, all others are blurred ones."""
    shutter: str | None = None
    """Shutter time at the first aperture, such as `1/60`; the others get the time of equal exposure. None starts from
    the camera's own time."""
    iso: str | None = None
    """ISO of all frames; None leaves it as it is."""
    repeats: int | None = Field(default=None, ge=1, le=999)
    """Number of times that each frame is taken; None: as in `[session]`."""
    note: str = ""
    """A remark on the scene, shown before it is shot."""

    @field_validator("apertures", "aperture", "shutter", "iso", mode="before")
    @classmethod
    def _numbers_to_text(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return tuple(_to_text(entry) for entry in value)
        return _to_text(value)

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        for text in (*self.apertures, *([self.aperture] if self.aperture else [])):
            if parse_f_number(text) is None:
                raise ValueError(f"{text!r} is no f-number; write f/2.8")
        if self.shutter is not None and parse_shutter_s(self.shutter) is None:
            raise ValueError(f"shutter = {self.shutter!r} is no time; write 1/60 or 0.5")
        if self.iso is not None and (parse_number(self.iso) or 0) <= 0:
            raise ValueError(f"iso = {self.iso!r} is no number; write 100")
        numbers = [parse_f_number(text) for text in self.apertures]
        if len(set(numbers)) < len(numbers) or len(set(self.focus_steps)) < len(self.focus_steps):
            raise ValueError("the same aperture or focus step stands there twice; repeats = 2 takes a frame twice")
        return self


class SceneTable(Defaults):
    """Table `[[scene]]`: a name, and the keys that differ from `[defaults]`."""

    name: str
    """Name of the scene and its folder; the name of a numbered scene (scene-0003) alters that one."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _SCENE_NAME.match(value) or value.endswith((".", " ")) or value.casefold().startswith("session."):
            raise ValueError(
                "a scene's name is made of letters, digits, '.', '-', '_' and blanks, and no file of the session"
            )
        return value


def _to_text(value: object) -> object:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value
