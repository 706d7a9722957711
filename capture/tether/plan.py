"""The shot list: a plan in TOML, checked whole before the camera is touched, and expanded to shots in order."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from capture.tether.exposure import equal_exposure_s, format_shutter, parse_f_number, parse_number, parse_shutter_s
from sdd_toolkit.config import Section, SectionT, validate
from sdd_toolkit.errors import ConfigError, ManifestError
from sdd_toolkit.storage.files import check_relative
from sdd_toolkit.storage.fingerprint import fingerprint, fingerprint_text

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLES = ("camera", "session", "check", "defaults", "scene")
_SCENE_NAME = re.compile(r"^\w[\w .-]*$")
_NAMING_FIELDS = ("scene", "role", "repeat")
_OVERHEAD_PER_FRAME_S = 3.0  # setting, download, check


class CameraTable(Section):
    """Which camera, and what is set on it once."""

    driver: Literal["gphoto2", "virtual"] = "gphoto2"
    """`gphoto2`: any camera libgphoto2 drives; `virtual`: the one of `sdd capture simulate`, for rehearsals."""
    model: str | None = None
    """Part of the model's name; None takes the first camera found."""
    port: str | None = None
    """Port such as `usb:001,005`, where several cameras of a model are connected."""
    settings: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """Settings by the camera's own names, see `sdd capture cameras --settings`; set once, each read back."""
    seed: int = Field(default=0, ge=0)
    """Seed of the virtual camera's scenes."""


class SessionTable(Section):
    """Where the frames go, and with how much patience they are taken."""

    out: str = "session"
    """Folder of the session, relative to the plan."""
    scenes: int = Field(default=0, ge=0, le=9999)
    """How many scenes to shoot as `[defaults]` says: scene-0001, scene-0002 … `[[scene]]` adds or alters one."""
    naming: str = "{scene}/{role}"
    """Path of a frame without its extension; `{scene}`, `{role}` and `{repeat}` are replaced."""
    repeats: int = Field(default=1, ge=1, le=999)
    """How often each frame is taken."""
    settle_s: float = Field(default=1.0, ge=0, le=600)
    """Rest after settings or focus changed, so that nothing shakes any more."""
    timer_s: float = Field(default=0.0, ge=0, le=600)
    """Self-timer: rest before every single frame, kept by the computer."""
    mirror_up: bool = False
    """Switches on the camera's own exposure delay (mirror up first, then the shutter)."""
    scene_pause_s: float = Field(default=0.0, ge=0, le=3600)
    """Rest before every scene where nobody is asked (`--yes`, scripts)."""
    retries: int = Field(default=3, ge=0, le=100)
    """How often a lost connection is made anew before the session stops."""
    timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """How long a busy camera, a setting or a frame is waited for."""
    exif: Literal["warn", "strict", "off"] = "warn"
    """A frame whose EXIF tells other settings: a warning, an error, or not looked at."""
    delete_from_camera: bool = False
    """Deletes a frame on the camera once it is safe on the disk."""

    @field_validator("naming")
    @classmethod
    def _known_places(cls, value: str) -> str:
        try:
            names = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
            check_relative(value, "naming")
        except (ValueError, ManifestError) as error:
            raise ValueError(f"is no pattern for a path below the session's folder: {error}") from error
        if not names <= set(_NAMING_FIELDS) or not {"scene", "role"} <= names:
            raise ValueError("must hold {scene} and {role}, may hold {repeat}, and nothing else in braces")
        return value


class CheckTable(Section):
    """What is looked at after each shot; a frame that fails is offered again, never thrown away."""

    enabled: bool = True
    """Whether frames are looked at at all."""
    max_clipped_fraction: float = Field(default=0.05, ge=0, le=1)
    """More saturated pixels: over-exposed."""
    min_level: float = Field(default=0.02, ge=0, le=1)
    """Bright parts (linear, 99.5th percentile) below this: under-exposed."""
    max_exposure_ev: float = Field(default=0.5, ge=0)
    """Larger difference of brightness between the two frames of a pair."""
    min_sharpness_gain: float = Field(default=1.05, ge=0)
    """Smaller median gain in fine detail: the sharp frame is hardly sharper."""


class Defaults(Section):
    """How a scene is shot, unless it says otherwise itself."""

    kind: Literal["aperture", "focus"] = "aperture"
    """What changes between the frames of a pair."""
    apertures: tuple[str, ...] = ()
    """f-numbers of an aperture pair; the largest number is the sharp frame, all others are blurred ones."""
    aperture: str | None = None
    """f-number of both frames of a focus pair; None leaves the lens as it is."""
    focus_steps: tuple[int, ...] = ()
    """Where the frames of a focus pair are taken, in steps of the camera's focus drive from where the lens stood at
    the scene's start; the first is the sharp frame, all others are blurred ones."""
    shutter: str | None = None
    """Shutter time at the first aperture, such as `1/60`; the others get the time of equal exposure. None starts from
    what the camera is set to."""
    iso: str | None = None
    """ISO of all frames; None leaves it as it is."""
    repeats: int | None = Field(default=None, ge=1, le=999)
    """How often each frame is taken; None: as `[session]` says."""
    note: str = ""
    """A word on the scene, shown before it is shot."""

    @field_validator("apertures", "aperture", "shutter", "iso", mode="before")
    @classmethod
    def _numbers_are_welcome(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return tuple(_to_text(entry) for entry in value)
        return _to_text(value)

    @model_validator(mode="after")
    def _readable(self) -> Self:
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
    """One scene: a name, and whatever differs from `[defaults]`."""

    name: str
    """Names the scene's folder; a name of the counted scenes (scene-0003) alters that one."""

    @field_validator("name")
    @classmethod
    def _fit_for_a_folder(cls, value: str) -> str:
        if not _SCENE_NAME.match(value) or value.endswith((".", " ")) or value.casefold().startswith("session."):
            raise ValueError(
                "a scene's name is made of letters, digits, '.', '-', '_' and blanks, and no file of the session"
            )
        return value


@dataclass(frozen=True, slots=True)
class PlannedShot:
    """One frame to take.

    Attributes:
        scene: The scene's name.
        kind: `aperture` or `focus`.
        role: `blur` or `sharp`.
        repeat: 1 for the first time the frame is taken.
        f_number: Aperture to set; None leaves it.
        first_f_number: Aperture that `shutter_s` belongs to; this frame's time follows by equal exposure.
        shutter_s: Shutter time at `first_f_number`; None starts from what the camera is set to.
        iso: ISO to set; None leaves it.
        focus_steps: Steps of the focus drive from the scene's start; None leaves the focus alone.
        stem: Path of the frame below the session's folder, without extension.
        index: Place in the plan, from 0.
    """

    scene: str
    kind: str
    role: str
    repeat: int
    f_number: float | None
    first_f_number: float | None
    shutter_s: float | None
    iso: float | None
    focus_steps: int | None
    stem: str
    index: int

    def describe(self) -> str:
        """What is to be set, for people."""
        opening = f"f/{self.f_number:g}" if self.f_number is not None else "aperture as it is"
        time_s = "shutter from the camera" if self.shutter_s is None else f"{format_shutter(self.shutter_s)} s"
        if self.shutter_s is not None and self.f_number is not None and self.first_f_number is not None:
            time_s = f"{format_shutter(equal_exposure_s(self.shutter_s, self.first_f_number, self.f_number))} s"
        words = [opening, time_s, f"ISO {self.iso:g}" if self.iso is not None else ""]
        words += [f"focus {self.focus_steps:+d} steps" if self.focus_steps is not None else ""]
        return ", ".join(word for word in words if word)

    def fingerprint(self) -> str:
        """16 hex digits that change with what the frame is to be; its place in the plan is no part of it."""
        facts = {key: value for key, value in asdict(self).items() if key != "index"}
        return fingerprint(facts)


@dataclass(frozen=True, slots=True)
class ShootingPlan:
    """A checked plan.

    Attributes:
        camera: Which camera.
        session: Where to, and how patiently.
        check: What is looked at after each shot.
        shots: All frames in the order they are taken.
        notes: A word on a scene, by its name.
    """

    camera: CameraTable
    session: SessionTable
    check: CheckTable
    shots: tuple[PlannedShot, ...]
    notes: dict[str, str]

    def fingerprint(self) -> str:
        """16 hex digits that change with any frame of the plan."""
        return fingerprint_text(" ".join(shot.fingerprint() for shot in self.shots))


def estimate_duration_s(plan: ShootingPlan) -> float:
    """About how long the frames take, without what people need between the scenes."""
    total_s = len({shot.scene for shot in plan.shots}) * plan.session.scene_pause_s
    for shot in plan.shots:
        wanted_s = shot.shutter_s or 0.0
        if shot.f_number is not None and shot.first_f_number is not None:
            wanted_s = equal_exposure_s(wanted_s, shot.first_f_number, shot.f_number)
        total_s += plan.session.settle_s + plan.session.timer_s + wanted_s + _OVERHEAD_PER_FRAME_S
    return total_s


def read_plan(path: Path) -> ShootingPlan:
    """The plan in the file at `path`.

    Raises:
        ConfigError: The file is missing, not TOML, or holds a key or value that is not valid.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="write one: sdd capture plan --out") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="fix that line") from error
    return parse_plan(content, str(path))


def parse_plan(content: dict[str, Any], where: str) -> ShootingPlan:
    """The plan in parsed TOML; `where` names its source in messages.

    Raises:
        ConfigError: A key or a value is not valid.
    """
    # One pass over all tables: an unknown one is named with the nearest that exists.
    tables = {name: content.get(name, [] if name == "scene" else {}) for name in TABLES}
    _validate(_Tables, {name: None for name in content}, where)
    for name, table in tables.items():
        if not isinstance(table, list if name == "scene" else dict):
            form = "[[scene]]" if name == "scene" else f"[{name}]"
            raise ConfigError(f"{where}: {name} must be a table", hint=f"write {form} on a line of its own")
    session = _validate(SessionTable, tables["session"], f"{where} [session]")
    scenes = _build_scenes(tables["defaults"], tables["scene"], session.scenes, where)
    return ShootingPlan(
        camera=_validate(CameraTable, tables["camera"], f"{where} [camera]"),
        session=session,
        check=_validate(CheckTable, tables["check"], f"{where} [check]"),
        shots=_expand_shots(scenes, session, where),
        notes={scene.name: scene.note for scene in scenes if scene.note},
    )


class _Tables(Section):
    camera: None = None
    session: None = None
    check: None = None
    defaults: None = None
    scene: None = None


def _build_scenes(defaults: dict[str, Any], own: list[Any], count: int, where: str) -> list[SceneTable]:
    _validate(Defaults, defaults, f"{where} [defaults]")
    tables = {f"scene-{number:04d}": dict[str, Any](defaults) for number in range(1, count + 1)}
    named: set[str] = set()
    for place, table in enumerate(own, 1):
        values = table if isinstance(table, dict) else {}
        scene = _validate(SceneTable, {**defaults, **values}, f"{where} [[scene]] {place}")
        if scene.name.casefold() in named:
            raise ConfigError(f"{where}: two scenes are named {scene.name!r}", hint="give every scene its own name")
        named.add(scene.name.casefold())
        tables[scene.name] = {**defaults, **values}
    if not tables:
        raise ConfigError(f"{where} names no scenes", hint="set scenes = 5 in [session], or add a [[scene]] table")
    return [_validate(SceneTable, {**values, "name": name}, f"{where} scene {name}") for name, values in tables.items()]


def _expand_shots(scenes: Iterable[SceneTable], session: SessionTable, where: str) -> tuple[PlannedShot, ...]:
    shots: list[PlannedShot] = []
    for scene in scenes:
        frames = _build_frames(scene, f"{where} scene {scene.name}")
        for repeat in range(1, (scene.repeats or session.repeats) + 1):
            for frame in frames:
                stem = _stem(session.naming, scene.name, frame.stem, repeat)
                shots.append(replace(frame, repeat=repeat, stem=stem, index=len(shots)))
    counts = Counter(shot.stem.casefold() for shot in shots)
    twice = next((shot.stem for shot in shots if counts[shot.stem.casefold()] > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: two frames would be named {twice!r}", hint="change [session] naming or a scene")
    return tuple(shots)


def _build_frames(scene: SceneTable, where: str) -> list[PlannedShot]:
    """The frames of a scene in the order they are taken; their stems are names within the scene."""
    shutter_s = parse_shutter_s(scene.shutter) if scene.shutter else None
    iso = parse_number(scene.iso) if scene.iso else None
    if scene.kind == "aperture":
        numbers = [parse_f_number(text) or 0.0 for text in scene.apertures]
        if len(numbers) < 2:
            raise ConfigError(f"{where}: an aperture pair needs two apertures", hint='apertures = ["f/2.8", "f/16"]')
        sharp = max(numbers)
        return [
            _build_frame(scene, "sharp", "", number, numbers[0], shutter_s, iso)
            if number == sharp
            else _build_frame(
                scene, "blur", f"-f{number:g}" if len(numbers) > 2 else "", number, numbers[0], shutter_s, iso
            )
            for number in numbers
        ]
    if len(scene.focus_steps) < 2:
        raise ConfigError(f"{where}: a focus pair needs two focus steps", hint="focus_steps = [0, 40]")
    opening = parse_f_number(scene.aperture) if scene.aperture else None
    first, *others = scene.focus_steps
    return [
        _build_frame(scene, "sharp", "", opening, opening, shutter_s, iso, first),
        *(
            _build_frame(
                scene, "blur", f"-p{place}" if len(others) > 1 else "", opening, opening, shutter_s, iso, steps
            )
            for place, steps in enumerate(others, 1)
        ),
    ]


def _build_frame(
    scene: SceneTable,
    role: str,
    suffix: str,
    f_number: float | None,
    first_f_number: float | None,
    shutter_s: float | None,
    iso: float | None,
    focus_steps: int | None = None,
) -> PlannedShot:
    return PlannedShot(
        scene.name, scene.kind, role, 1, f_number, first_f_number, shutter_s, iso, focus_steps, role + suffix, 0
    )


def _stem(naming: str, scene: str, name: str, repeat: int) -> str:
    stem = naming.format(scene=scene, role=name, repeat=repeat)
    unnumbered = repeat == 1 or "{repeat}" in naming
    return str(PurePosixPath(stem if unnumbered else f"{stem}-{repeat}"))


def _validate(model: type[SectionT], values: dict[str, Any], where: str) -> SectionT:
    return validate(model, values, where, page="docs/tethering.md")


def _to_text(value: object) -> object:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value
