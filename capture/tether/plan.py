"""The shooting plan (shot list): reads it from TOML, checks it as a whole, and expands it to frames in order."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from capture.tether.exposure import equal_exposure_s, format_shutter, parse_f_number, parse_number, parse_shutter_s
from capture.tether.plan_config import CameraTable, CheckTable, Defaults, SceneTable, SessionTable
from sdd_toolkit.config import Section, SectionT, hint_for_toml, read_user_toml, validate
from sdd_toolkit.errors import ConfigError
from sdd_toolkit.storage.fingerprint import fingerprint, fingerprint_text

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLES = ("camera", "session", "check", "defaults", "scene")
_OVERHEAD_PER_FRAME_S = 3.0  # setting, download, check


@dataclass(frozen=True, slots=True)
class PlannedShot:
    """One frame to take.

    Attributes:
        scene: The scene's name.
        kind: `aperture` or `focus`.
        role: `blur` or `sharp`.
        repeat: Number of the repetition, from 1.
        f_number: Aperture to set; None keeps the camera's.
        first_f_number: Aperture to which `shutter_s` belongs; this frame's time follows by equal exposure.
        shutter_s: Shutter time in seconds at `first_f_number`; None starts from the camera's own time.
        iso: ISO to set; None keeps the camera's.
        focus_steps: Position of the focus drive from the scene's start; None keeps the focus.
        stem: Path of the frame below the session's folder, without extension.
        index: Number of the frame in the plan, from 0.
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
        """The settings of the frame, in words."""
        opening = f"f/{self.f_number:g}" if self.f_number is not None else "aperture as it is"
        time_s = "shutter from the camera" if self.shutter_s is None else f"{format_shutter(self.shutter_s)} s"
        if self.shutter_s is not None and self.f_number is not None and self.first_f_number is not None:
            time_s = f"{format_shutter(equal_exposure_s(self.shutter_s, self.first_f_number, self.f_number))} s"
        words = [opening, time_s, f"ISO {self.iso:g}" if self.iso is not None else ""]
        words += [f"focus {self.focus_steps:+d} steps" if self.focus_steps is not None else ""]
        return ", ".join(word for word in words if word)

    def fingerprint(self) -> str:
        """16 hex digits that change with the definition of the frame, not with its number in the plan."""
        facts = {key: value for key, value in asdict(self).items() if key != "index"}
        return fingerprint(facts)


@dataclass(frozen=True, slots=True)
class ShootingPlan:
    """A checked plan.

    Attributes:
        camera: The camera and its settings.
        session: Folder, names and timing.
        check: Limits of the check after each shot.
        shots: All frames in the order they are taken.
        notes: Remarks on scenes, by name.
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
    """Estimated duration of all exposures in seconds, without the time to arrange the scenes."""
    total_s = len({shot.scene for shot in plan.shots}) * plan.session.scene_pause_s
    for shot in plan.shots:
        shutter_s = shot.shutter_s or 0.0
        if shot.f_number is not None and shot.first_f_number is not None:
            shutter_s = equal_exposure_s(shutter_s, shot.first_f_number, shot.f_number)
        total_s += plan.session.settle_s + plan.session.timer_s + shutter_s + _OVERHEAD_PER_FRAME_S
    return total_s


def read_plan(path: Path) -> ShootingPlan:
    """Reads the plan in the file at `path`.

    Raises:
        ConfigError: The file is missing, not TOML, or holds a key or value that is not valid.
    """
    try:
        content = read_user_toml(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="write one: sdd capture plan --out") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=hint_for_toml(error)) from error
    return parse_plan(content, str(path))


def parse_plan(content: dict[str, Any], where: str) -> ShootingPlan:
    """Checks and expands a plan from parsed TOML; `where` names its source in messages.

    Raises:
        ConfigError: A key or a value is not valid.
    """
    # Unknown tables are reported with the nearest known name.
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


def _build_scenes(defaults: dict[str, Any], scenes: list[Any], count: int, where: str) -> list[SceneTable]:
    _validate(Defaults, defaults, f"{where} [defaults]")
    tables = {f"scene-{number:04d}": dict[str, Any](defaults) for number in range(1, count + 1)}
    names: set[str] = set()
    for number, table in enumerate(scenes, 1):
        values = table if isinstance(table, dict) else {}
        scene = _validate(SceneTable, {**defaults, **values}, f"{where} [[scene]] {number}")
        if scene.name.casefold() in names:
            raise ConfigError(f"{where}: two scenes are named {scene.name!r}", hint="give every scene its own name")
        names.add(scene.name.casefold())
        tables[scene.name] = {**defaults, **values}
    if not tables:
        raise ConfigError(f"{where} names no scenes", hint="set scenes = 5 in [session], or add a [[scene]] table")
    return [_validate(SceneTable, {**values, "name": name}, f"{where} scene {name}") for name, values in tables.items()]


def _expand_shots(scenes: Iterable[SceneTable], session: SessionTable, where: str) -> tuple[PlannedShot, ...]:
    shots: list[PlannedShot] = []
    for scene in scenes:
        scene_shots = _scene_shots(scene, f"{where} scene {scene.name}")
        for repeat in range(1, (scene.repeats or session.repeats) + 1):
            for shot in scene_shots:
                stem = _stem(session.naming, scene.name, shot.stem, repeat)
                shots.append(replace(shot, repeat=repeat, stem=stem, index=len(shots)))
    counts = Counter(shot.stem.casefold() for shot in shots)
    duplicate = next((shot.stem for shot in shots if counts[shot.stem.casefold()] > 1), None)
    if duplicate is not None:
        raise ConfigError(
            f"{where}: two frames would be named {duplicate!r}", hint="change [session] naming or a scene"
        )
    return tuple(shots)


def _scene_shots(scene: SceneTable, where: str) -> list[PlannedShot]:
    """The frames of a scene in the order they are taken; their stems are names within the scene."""
    return _aperture_shots(scene, where) if scene.kind == "aperture" else _focus_shots(scene, where)


def _aperture_shots(scene: SceneTable, where: str) -> list[PlannedShot]:
    f_numbers = [parse_f_number(text) or 0.0 for text in scene.apertures]
    if len(f_numbers) < 2:
        raise ConfigError(f"{where}: an aperture pair needs two apertures", hint='apertures = ["f/2.8", "f/16"]')
    sharp = replace(_sharp_shot(scene), f_number=max(f_numbers), first_f_number=f_numbers[0])
    several = len(f_numbers) > 2
    return [
        sharp
        if f_number == sharp.f_number
        else replace(sharp, role="blur", f_number=f_number, stem=f"blur-f{f_number:g}" if several else "blur")
        for f_number in f_numbers
    ]


def _focus_shots(scene: SceneTable, where: str) -> list[PlannedShot]:
    if len(scene.focus_steps) < 2:
        raise ConfigError(f"{where}: a focus pair needs two focus steps", hint="focus_steps = [0, 40]")
    f_number = parse_f_number(scene.aperture) if scene.aperture else None
    first, *others = scene.focus_steps
    sharp = replace(_sharp_shot(scene), f_number=f_number, first_f_number=f_number, focus_steps=first)
    several = len(others) > 1
    blurred = [
        replace(sharp, role="blur", focus_steps=steps, stem=f"blur-p{number}" if several else "blur")
        for number, steps in enumerate(others, 1)
    ]
    return [sharp, *blurred]


def _sharp_shot(scene: SceneTable) -> PlannedShot:
    """The sharp frame of a scene, before its aperture and focus are known."""
    return PlannedShot(
        scene=scene.name,
        kind=scene.kind,
        role="sharp",
        repeat=1,
        f_number=None,
        first_f_number=None,
        shutter_s=parse_shutter_s(scene.shutter) if scene.shutter else None,
        iso=parse_number(scene.iso) if scene.iso else None,
        focus_steps=None,
        stem="sharp",
        index=0,
    )


def _stem(naming: str, scene: str, name: str, repeat: int) -> str:
    stem = naming.format(scene=scene, role=name, repeat=repeat)
    unnumbered = repeat == 1 or "{repeat}" in naming
    return str(PurePosixPath(stem if unnumbered else f"{stem}-{repeat}"))


def _validate(model: type[SectionT], values: dict[str, Any], where: str) -> SectionT:
    return validate(model, values, where, page="docs/tethering.md")
