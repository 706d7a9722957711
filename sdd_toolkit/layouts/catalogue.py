"""The layouts of published data sets: how to tell them, and which files are pairs. docs/interop.md has the sources."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.layouts import sidecar
from sdd_toolkit.layouts.listing import (
    Files,
    Listing,
    SourcePair,
    filter_listing,
    is_image,
    key_of,
    list_files,
    match_frames,
)
from sdd_toolkit.records import PairKind, Reason, RejectedFile
from sdd_toolkit.storage.files import check_relative

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_MAX_JSON_BYTES = 1 << 20
_MAX_F_NUMBER = 1000.0


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to lay out a data set.

    Attributes:
        looks: How, in a few words.
        signs: Its folders or files; one of them tells the layout.
        read: The pairs of a folder and its files.
    """

    looks: str
    signs: tuple[tuple[str, ...], ...]
    read: Callable[[Path, Files], Listing]


@dataclass(frozen=True, slots=True)
class FrameRoles:
    """A layout of two folders a split.

    Attributes:
        splits: The split of each folder; the empty folder is the data set itself, None: no split.
        named: The split of the data set itself if its folder has one of these names: it is then one split of one.
        kind: What was changed between the shots.
        by_order: See `listing.partners`.
        ignored: Folders (of other views) by what is said of their files.
        unless: Folders that are read only where the other folder is missing: cut out of it.
    """

    splits: Mapping[str, str | None]
    blur: str
    sharp: str
    kind: PairKind
    by_order: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)


def _join_path(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _read_two_folders(roles: FrameRoles, root: Path, files: Files) -> Listing:
    drafts: list[SourcePair] = []
    left: list[RejectedFile] = []
    for folder, usual in roles.splits.items():
        split = usual if folder else roles.named.get(root.resolve().name, usual)
        instead = roles.unless.get(folder)
        if instead is not None and files.below(instead):
            why = f"cut out of {instead}"
            left += [RejectedFile(path, Reason.DUPLICATE, why) for path in files.below(folder) if is_image(path)]
            continue
        blur, sharp = _join_path(folder, roles.blur), _join_path(folder, roles.sharp)
        found = match_frames(files.below(blur), files.below(sharp), blur, sharp, by_order=roles.by_order)
        drafts += [SourcePair(key, key, split, one, other, roles.kind) for key, one, other in found]
    for folder, why in roles.ignored.items():
        left += [RejectedFile(path, Reason.UNSUPPORTED, why) for path in files.below(folder) if is_image(path)]
    return filter_listing(files, drafts, left)


def _read_lfdof(root: Path, files: Files) -> Listing:
    """Several refocused frames a light field: `input/NAME/NAME_….png` belong to `ground_truth/NAME.png`."""
    drafts = []
    for folder, split in (("train_data", "train"), ("test_data", "test")):
        truth = f"{folder}/ground_truth"
        sharp = {key_of(path, truth): path for path in files.below(truth) if is_image(path)}
        for path in files.below(f"{folder}/input"):
            scene = PurePosixPath(path).parent.name
            if is_image(path) and scene in sharp:
                stem = PurePosixPath(path).stem
                drafts.append(SourcePair(stem, scene, split, path, sharp[scene], PairKind.FOCUS))
    return filter_listing(files, drafts)


def _read_realbokeh(root: Path, files: Files) -> Listing:
    """`metadata/SCENE.json` names the sharp frame (`in/`) and the wide-open ones (`gt/`): roles turned round."""
    drafts: list[SourcePair] = []
    left: list[RejectedFile] = []
    read: list[str] = []
    present = set(files.paths)
    for folder, split in (("train", "train"), ("validation", "val"), ("val", "val"), ("test", "test")):
        for path in files.below(f"{folder}/metadata"):
            if not path.endswith(".json"):
                continue
            try:
                sharp, blurs = _read_scene(root / path, folder)
            except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, ManifestError) as error:
                left.append(RejectedFile(path, Reason.UNREADABLE, f"not the facts of a scene: {error}"[:200]))
                continue
            read.append(path)
            scene = PurePosixPath(path).stem
            drafts += [
                SourcePair(PurePosixPath(blur).stem, scene, split, blur, sharp, PairKind.APERTURE, f_number)
                for blur, f_number in blurs
                if blur in present and sharp in present
            ]
    return filter_listing(files, drafts, left, read)


def _read_scene(path: Path, folder: str) -> tuple[str, list[tuple[str, float]]]:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError("longer than 1 MiB")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names = [str(facts["source_image"]), *(str(name) for name in facts["target_images"])]
    for name in names:
        check_relative(name, str(path))
    sharp, *blurs = (_join_path(folder, str(PurePosixPath(name))) for name in names)
    stops = [float(value) for value in facts["target_avs"]]
    if not all(0 < stop < _MAX_F_NUMBER for stop in stops):
        raise ValueError(f"f-numbers {stops}")
    return sharp, list(zip(blurs, stops, strict=True))


SPLITS = ("train", "val", "test")
_SDD_SPLITS = {"train": "train", "train_patches": "train", "val": "val", "test": "test"}
SDD = FrameRoles(
    {**_SDD_SPLITS, "": None},
    "blur",
    "gt",
    PairKind.FOCUS,
    unless={"train_patches": "train"},
    named=_SDD_SPLITS,
)
PLAIN = FrameRoles({split: split for split in SPLITS}, "blur", "sharp", PairKind.AUTO)
_VIEW = "a dual-pixel view: only the combined picture is taken"
_DPDD_SPLITS = {f"{split}_c": split for split in SPLITS}
DPDD = FrameRoles(
    _DPDD_SPLITS,
    "source",
    "target",
    PairKind.APERTURE,
    by_order=True,
    ignored={f"{split}_{side}": _VIEW for split in SPLITS for side in "lr"},
)
REALDOF = FrameRoles({"": "test"}, "source", "target", PairKind.APERTURE, by_order=True, named=_DPDD_SPLITS)

# The order counts: the first layout with a sign in the folder is it.
LAYOUTS: dict[str, Layout] = {
    "exported": Layout("an export of `sdd export`", ((sidecar.MARKER,),), sidecar.read_sidecar),
    "dpdd": Layout(
        "train_c|val_c|test_c/{source,target}",
        tuple((f"{folder}/source", f"{folder}/target") for folder in DPDD.splits),
        partial(_read_two_folders, DPDD),
    ),
    "lfdof": Layout(
        "train_data|test_data/{input/NAME,ground_truth}",
        tuple((f"{folder}/input", f"{folder}/ground_truth") for folder in ("train_data", "test_data")),
        _read_lfdof,
    ),
    "realbokeh": Layout(
        "train|validation|test/{in,gt,metadata}",
        tuple((f"{folder}/in", f"{folder}/gt") for folder in ("train", "validation", "val", "test")),
        _read_realbokeh,
    ),
    "sdd": Layout(
        "train|train_patches|val|test/{blur,gt} or {blur,gt}",
        tuple((_join_path(folder, "blur"), _join_path(folder, "gt")) for folder in SDD.splits),
        partial(_read_two_folders, SDD),
    ),
    "png": Layout(
        "train|val|test/{blur,sharp}",
        tuple((f"{folder}/blur", f"{folder}/sharp") for folder in SPLITS),
        partial(_read_two_folders, PLAIN),
    ),
    "realdof": Layout("{source,target}", (("source", "target"),), partial(_read_two_folders, REALDOF)),
}
TWO_FOLDERS = "folders"
LAYOUT_NAMES = ("auto", *LAYOUTS, TWO_FOLDERS)


def survey_folder(root: Path, layout: str, blur: str | None = None, sharp: str | None = None) -> tuple[str, Listing]:
    """The layout of `root` and what it holds.

    Args:
        root: Folder of the data set.
        layout: One of `NAMES`; `auto` is the first whose folders are there.
        blur: For `folders`: where the blurred frames lie, relative to `root`.
        sharp: The same of the sharp ones.

    Raises:
        InputError: No such folder, no layout fits, or none of that name.
        ManifestError: `blur` or `sharp` leaves `root`.
    """
    files = list_files(root)
    if blur is not None or sharp is not None or layout == TWO_FOLDERS:
        return TWO_FOLDERS, _read_named_folders(root, files, layout, blur, sharp)
    found = recognise_layout(root) if layout == "auto" else layout
    if found not in LAYOUTS:
        raise InputError(f"no layout is called {found!r}", hint=f"layouts: {', '.join(LAYOUT_NAMES)}")
    return found, LAYOUTS[found].read(root, files)


def recognise_layout(root: Path) -> str:
    """The name of the first layout that has one of its signs below `root`.

    Raises:
        InputError: None has; says what is there.
    """
    if found := _match_layout(root):
        return found
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    for folder in inner:
        if below := _match_layout(folder):
            raise InputError(f"{root} is no data set, but {folder} looks like {below}", hint="give that folder")
    there = ", ".join(path.name for path in inner[:8]) or "none"
    known = "; ".join(f"{name} = {layout.looks}" for name, layout in LAYOUTS.items())
    raise InputError(
        f"{root} has no layout this toolkit knows; its folders: {there}",
        hint=f"{known}; or name the two folders: --blur DIR --sharp DIR",
    )


def _match_layout(root: Path) -> str | None:
    for name, layout in LAYOUTS.items():
        if any(all((root / sign).exists() for sign in signs) for signs in layout.signs):
            return name
    return None


def _read_named_folders(root: Path, files: Files, layout: str, blur: str | None, sharp: str | None) -> Listing:
    if layout not in ("auto", TWO_FOLDERS) or blur is None or sharp is None:
        raise InputError(
            f"the layout {layout!r} with --blur {blur} and --sharp {sharp}",
            hint="two folders need --blur DIR and --sharp DIR, and no other --layout",
        )
    folders = [str(PurePosixPath(folder)) for folder in (blur, sharp)]
    for folder in folders:
        check_relative(folder, str(root))
    nested = [f"{folder}/" for folder in folders]
    if any(one.startswith(other) for one, other in (nested, reversed(nested))):
        raise InputError(f"{blur} and {sharp} lie one in the other", hint="give two folders beside each other")
    found = match_frames(files.below(folders[0]), files.below(folders[1]), *folders)
    return filter_listing(files, [_unnamed_pair(key, one, other) for key, one, other in found])


def _unnamed_pair(key: str, blur: str, sharp: str) -> SourcePair:
    scene = str(PurePosixPath(key).parent)
    return SourcePair(key, key if scene == "." else scene, None, blur, sharp, PairKind.AUTO)
