"""Groups frames into scenes: which files show the same subject. The rules are explained in docs/ingest.md.

1. Role words in names (`x_blur`/`x_sharp`, `source/x`/`target/x`) join frames of one stem.
2. Where several folders hold frames, a small folder without subfolders is one scene, unless its times contradict.
3. Otherwise a long pause between shots starts a new scene.
4. Without times, names that differ only in their number belong together.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sdd_toolkit.records import FileProvenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from capture.config import IngestConfig
    from sdd_toolkit.records import FrameMeta


class Role(StrEnum):
    """The role that a file's name gives to a frame."""

    BLUR = "blur"
    SHARP = "sharp"


ROLE_WORDS = {
    **dict.fromkeys(("blur", "blurred", "blurry", "defocus", "defocused", "source", "input"), Role.BLUR),
    **dict.fromkeys(("sharp", "gt", "groundtruth", "target", "aif", "allinfocus", "reference"), Role.SHARP),
}
_APERTURE = re.compile(r"(?<![^\W_])f[-_]?\d{1,2}([.,]\d)?(?![^\W_])")


@dataclass(frozen=True, slots=True)
class Frame:
    """A readable file, with what grouping and pairing need of it.

    Attributes:
        name: Path relative to the manifest's root, POSIX.
        meta: Its metadata.
        detail: Fine detail relative to brightness; None if not measured.
        role: The role its name gives.
        clock_s: Capture time on a clock that all frames share; None where only `meta.taken_at` is known.
        provenance: Whether it is a camera's original or made of one.
    """

    name: str
    meta: FrameMeta
    detail: float | None = None
    role: Role | None = None
    clock_s: float | None = None
    provenance: FileProvenance = field(default_factory=FileProvenance)

    @property
    def time_s(self) -> float | None:
        """Seconds since 1970 by the shared clock, else by the camera's own; None if unknown."""
        return self.clock_s if self.clock_s is not None else wall_time_s(self.meta)


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames of one scene in the order of their names, and a name that is unique but not yet safe for files."""

    name: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class _ParsedFrame:
    """A frame, and its folder and stem without role words."""

    frame: Frame
    folder: str
    stem: str


def group_scenes(frames: Iterable[Frame], config: IngestConfig) -> list[Scene]:
    """Groups `frames` into scenes and sets their roles; each frame is in exactly one scene."""
    parsed = _parse_frames(sorted(frames, key=lambda frame: natural_key(frame.name)))
    folders: dict[str, list[_ParsedFrame]] = defaultdict(list)
    for member in parsed:
        folders[member.folder].append(member)
    parents = {str(parent) for folder in folders for parent in PurePosixPath(folder).parents}
    scenes: list[Scene] = []
    for folder, members in folders.items():
        by_role, rest = _group_by_role(folder, members)
        scenes += by_role
        is_leaf = (folder or ".") not in parents
        for camera in [rest] if config.cameras == "together" and rest else _split_by_camera(rest):
            small = len(folders) > 1 and is_leaf and len(rest) <= config.scene_frames
            if small and not _holds_several_scenes(camera, config.gap_s):
                scenes.append(_build_scene(folder, "", camera))
            else:
                scenes += _group_by_time(folder, camera, config.gap_s)
    return scenes


def assign_roles(frames: Iterable[Frame]) -> list[Frame]:
    """The frames in the order of their names, with the roles that their names and folders give."""
    return [parsed.frame for parsed in _parse_frames(sorted(frames, key=lambda frame: natural_key(frame.name)))]


def wall_time_s(meta: FrameMeta) -> float | None:
    """The camera's own time in seconds since 1970, as if it were UTC; None if unknown."""
    return None if meta.taken_at is None else datetime.fromisoformat(meta.taken_at).replace(tzinfo=UTC).timestamp()


def zone_offset_s(zone: str | None) -> float:
    """How many seconds a time zone such as `+02:00` is ahead of UTC; 0 if unknown."""
    if zone is None:
        return 0.0
    return (-1 if zone[0] == "-" else 1) * (int(zone[1:3]) * 3600.0 + int(zone[4:6]) * 60.0)


def body_name(frame: Frame) -> str:
    """A name for the camera body of a frame: maker, model and, if known, serial number."""
    meta = frame.meta
    return " ".join(part for part in (meta.make, meta.model, meta.serial and f"#{meta.serial}") if part)


def split_role(stem: str) -> tuple[Role | None, str]:
    """The role that the last role word of a name gives, and the name in lower case without it and without f-numbers.

    >>> split_role("Shelf_blur_2")
    (<Role.BLUR: 'blur'>, 'shelf_2')
    """
    # Composed: in the other Unicode form an accent is a character of its own, and would end a word.
    stem = unicodedata.normalize("NFC", stem).lower()
    words = [word for word in re.split(r"[\W_]+", _APERTURE.sub("_", stem)) if word]
    for index in reversed(range(len(words))):
        word = words[index].rstrip("0123456789")
        if word in ROLE_WORDS:
            number = words[index][len(word) :]
            return ROLE_WORDS[word], "_".join([*words[:index], *([number] if number else []), *words[index + 1 :]])
    return None, stem


def natural_key(name: str) -> tuple[tuple[str, int, str], ...]:
    """Sort key that compares numbers by value.

    >>> sorted(["step10", "step9"], key=natural_key)
    ['step9', 'step10']
    """
    parts = re.findall(r"(\D*)(\d*)", name)
    return tuple((text, int(digits or 0), digits) for text, digits in parts)


def _parse_frames(frames: Sequence[Frame]) -> list[_ParsedFrame]:
    leaves = {frame.name.rpartition("/")[0]: PurePosixPath(frame.name).parent for frame in frames}
    folders = {parent for leaf in leaves.values() for parent in (leaf, *leaf.parents)}
    role_folders = _find_role_folders(folders)
    joined = {text: _without_role_folder(leaf, role_folders) for text, leaf in leaves.items()}
    parsed = []
    for frame in frames:
        folder, _, name = frame.name.rpartition("/")
        role, stem = split_role(PurePosixPath(name).stem)
        scene_folder, folder_role = joined[folder]
        parsed.append(_ParsedFrame(replace(frame, role=role or folder_role), scene_folder, stem))
    return parsed


def _find_role_folders(folders: Iterable[PurePosixPath]) -> dict[PurePosixPath, Role]:
    """Folders that are named after a role and have a sibling that is named after the other one."""
    roles = {folder: role for folder in folders if (role := _folder_role(folder)) is not None}
    siblings: dict[PurePosixPath, set[Role]] = defaultdict(set)
    for folder, role in roles.items():
        siblings[folder.parent].add(role)
    return {folder: role for folder, role in roles.items() if len(siblings[folder.parent]) == len(Role)}


def _without_role_folder(folder: PurePosixPath, role_folders: Mapping[PurePosixPath, Role]) -> tuple[str, Role | None]:
    """A folder without the innermost one that is named after a role, and that role."""
    for parent in (folder, *folder.parents):
        if parent in role_folders:
            joined, role = parent.parent / folder.relative_to(parent), role_folders[parent]
            break
    else:
        joined, role = folder, None
    return "" if joined == PurePosixPath() else unicodedata.normalize("NFC", str(joined)), role


def _folder_role(folder: PurePosixPath) -> Role | None:
    return ROLE_WORDS.get(re.sub(r"[\W_]+", "", folder.name.lower()))


def _group_by_role(folder: str, members: list[_ParsedFrame]) -> tuple[list[Scene], list[_ParsedFrame]]:
    """Scenes by role words, if any stem has both roles; and the members left to the other rules."""
    stems: dict[str, list[_ParsedFrame]] = defaultdict(list)
    for member in members:
        if member.frame.role is not None:
            stems[member.stem].append(member)
    complete = [stem for stem, joined in stems.items() if len({member.frame.role for member in joined}) == 2]
    if not complete:
        return [], members
    rest = [member for member in members if member.frame.role is None]
    if complete == [""]:  # plain `blur`, `blur_2`, `sharp`: the folder is the scene
        return [_build_scene(folder, "", [member for member in members if member.frame.role is not None])], rest
    return [_build_scene(folder, stem, joined) for stem, joined in stems.items()], rest


def _split_by_camera(members: list[_ParsedFrame]) -> list[list[_ParsedFrame]]:
    """Frames of different cameras form no scene; with one known camera, frames of unknown cameras count as its own."""
    cameras: dict[tuple[str | None, str | None], list[_ParsedFrame]] = defaultdict(list)
    for member in members:
        cameras[(member.frame.meta.make, member.frame.meta.model)].append(member)
    known = [camera for camera in cameras if camera != (None, None)]
    if len(known) > 1:
        return [body for camera in cameras.values() for body in _split_by_serial(camera)]
    return _split_by_serial(members) if members else []


def _split_by_serial(members: list[_ParsedFrame]) -> list[list[_ParsedFrame]]:
    """Two bodies of one model are two cameras; with one known body, frames of unknown bodies count as its own."""
    bodies: dict[str | None, list[_ParsedFrame]] = defaultdict(list)
    for member in members:
        bodies[member.frame.meta.serial].append(member)
    return list(bodies.values()) if len(bodies.keys() - {None}) > 1 else [members]


def _holds_several_scenes(members: list[_ParsedFrame], gap_s: float) -> bool:
    """Whether the times of a folder form groups of two frames and more: the folder of a card, not of one scene."""
    bursts = _split_bursts(members, gap_s)
    timed = sum(map(len, bursts)) == len(members)
    return timed and len(bursts) > 1 and min(map(len, bursts)) > 1


def _split_bursts(members: list[_ParsedFrame], gap_s: float) -> list[list[_ParsedFrame]]:
    """The members with a capture time, in its order, split where a pause is longer than `gap_s`."""
    timed = sorted(
        (time_s, natural_key(member.frame.name), index)
        for index, member in enumerate(members)
        if (time_s := member.frame.time_s) is not None
    )
    bursts: list[list[_ParsedFrame]] = []
    last_s = 0.0
    for time_s, _, index in timed:
        if not bursts or time_s - last_s > gap_s:
            bursts.append([])
        bursts[-1].append(members[index])
        last_s = time_s
    return bursts


def _group_by_time(folder: str, members: list[_ParsedFrame], gap_s: float) -> list[Scene]:
    untimed: dict[str, list[_ParsedFrame]] = defaultdict(list)
    for member in members:
        if member.frame.time_s is None:
            untimed[_stem_without_number(member)].append(member)
    return [
        *(
            _build_scene(folder, PurePosixPath(burst[0].frame.name).stem, burst)
            for burst in _split_bursts(members, gap_s)
        ),
        *(_build_scene(folder, stem, same) for stem, same in untimed.items()),
    ]


def _stem_without_number(member: _ParsedFrame) -> str:
    # The number may be all that distinguishes the scenes of a blurred and a sharp frame.
    return member.stem if member.frame.role else re.sub(r"[\W_]*\d+$", "", member.stem)


def _build_scene(folder: str, stem: str, members: Sequence[_ParsedFrame]) -> Scene:
    name = "/".join(part for part in (folder, stem) if part)
    return Scene(name, tuple(sorted((member.frame for member in members), key=lambda frame: natural_key(frame.name))))
