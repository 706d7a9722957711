"""The layouts of published data sets: their fingerprints, and which files form pairs. Sources: docs/interop.md."""

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
    """One layout of a data set.

    Attributes:
        frame_pattern: Its folders, in a few words.
        fingerprints: Groups of folders or files; a data set that has all of one group has this layout.
        read: Function that lists the pairs of a folder.
    """

    frame_pattern: str
    fingerprints: tuple[tuple[str, ...], ...]
    read: Callable[[Path, Files], Listing]


@dataclass(frozen=True, slots=True)
class FrameRoles:
    """A layout with two folders of frames a split.

    Attributes:
        splits: The split of each folder; the empty name is the data set's own folder, None: no split.
        blur: Name of the folder of blurred frames.
        sharp: Name of the folder of sharp frames.
        kind: What was changed between the shots.
        by_order: See `listing.match_frames`.
        ignored: Folders of other views, and the reason why their files are left out.
        except_if: Folders that are skipped if another folder exists, from whose frames theirs are cut.
        split_names: The split of the data set's own folder by its name, for a folder that is one split of a data set.
    """

    splits: Mapping[str, str | None]
    blur: str
    sharp: str
    kind: PairKind
    by_order: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)
    except_if: Mapping[str, str] = field(default_factory=dict)
    split_names: Mapping[str, str] = field(default_factory=dict)


def _join_path(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _read_two_folders(roles: FrameRoles, root: Path, files: Files) -> Listing:
    drafts: list[SourcePair] = []
    unpaired: list[RejectedFile] = []
    for folder, split in roles.splits.items():
        if not folder:
            split = roles.split_names.get(root.resolve().name, split)
        frames_folder = roles.except_if.get(folder)
        if frames_folder is not None and files.below(frames_folder):
            why = f"cut out of {frames_folder}"
            unpaired += [RejectedFile(path, Reason.DUPLICATE, why) for path in files.below(folder) if is_image(path)]
            continue
        blur, sharp = _join_path(folder, roles.blur), _join_path(folder, roles.sharp)
        matches = match_frames(files.below(blur), files.below(sharp), blur, sharp, by_order=roles.by_order)
        drafts += [SourcePair(key, key, split, blurred, sharp_path, roles.kind) for key, blurred, sharp_path in matches]
    for folder, why in roles.ignored.items():
        unpaired += [RejectedFile(path, Reason.UNSUPPORTED, why) for path in files.below(folder) if is_image(path)]
    return filter_listing(files, drafts, unpaired)


def _read_lfdof(root: Path, files: Files) -> Listing:
    """LFDOF: several refocused frames a light field, `input/NAME/NAME_….png` with `ground_truth/NAME.png`."""
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
    """RealBokeh: `metadata/SCENE.json` names the sharp frame (`in/`) and the wide-open ones (`gt/`)."""
    drafts: list[SourcePair] = []
    unpaired: list[RejectedFile] = []
    read: list[str] = []
    present = set(files.paths)
    for folder, split in (("train", "train"), ("validation", "val"), ("val", "val"), ("test", "test")):
        for path in files.below(f"{folder}/metadata"):
            if not path.endswith(".json"):
                continue
            try:
                sharp, blurs = _read_scene(root / path, folder)
            except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, ManifestError) as error:
                unpaired.append(RejectedFile(path, Reason.UNREADABLE, f"not the facts of a scene: {error}"[:200]))
                continue
            read.append(path)
            scene = PurePosixPath(path).stem
            drafts += [
                SourcePair(PurePosixPath(blur).stem, scene, split, blur, sharp, PairKind.APERTURE, f_number)
                for blur, f_number in blurs
                if blur in present and sharp in present
            ]
    return filter_listing(files, drafts, unpaired, read)


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
    except_if={"train_patches": "train"},
    split_names=_SDD_SPLITS,
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
REALDOF = FrameRoles({"": "test"}, "source", "target", PairKind.APERTURE, by_order=True, split_names=_DPDD_SPLITS)

# The order counts: the first layout with a fingerprint in the folder is taken.
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
    """The name of the layout of `root`, and its pairs and files.

    Args:
        root: Folder of the data set.
        layout: One of `LAYOUT_NAMES`; `auto` takes the first layout that is recognised.
        blur: For `folders`: the folder of the blurred frames, relative to `root`.
        sharp: The same for the sharp frames.

    Raises:
        InputError: No such folder, no layout fits, or the name is unknown.
        ManifestError: `blur` or `sharp` leaves `root`.
    """
    files = list_files(root)
    if blur is not None or sharp is not None or layout == TWO_FOLDERS:
        return TWO_FOLDERS, _read_named_folders(root, files, layout, blur, sharp)
    name = recognise_layout(root) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise InputError(f"no layout is called {name!r}", hint=f"layouts: {', '.join(LAYOUT_NAMES)}")
    return name, LAYOUTS[name].read(root, files)


def recognise_layout(root: Path) -> str:
    """The name of the first layout with a fingerprint below `root`.

    Raises:
        InputError: None has one; names the folders that are there.
    """
    if name := _match_layout(root):
        return name
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    for folder in inner:
        if name := _match_layout(folder):
            raise InputError(f"{root} is no data set, but {folder} looks like {name}", hint="give that folder")
    there = ", ".join(path.name for path in inner[:8]) or "none"
    known = "; ".join(f"{name} = {layout.frame_pattern}" for name, layout in LAYOUTS.items())
    raise InputError(
        f"{root} has no known layout; its folders: {there}",
        hint=f"{known}; or name the two folders: --blur DIR --sharp DIR",
    )


def _match_layout(root: Path) -> str | None:
    for name, layout in LAYOUTS.items():
        if any(all((root / path).exists() for path in paths) for paths in layout.fingerprints):
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
    if nested[0].startswith(nested[1]) or nested[1].startswith(nested[0]):
        raise InputError(f"{blur} and {sharp} lie one in the other", hint="give two folders beside each other")
    matches = match_frames(files.below(folders[0]), files.below(folders[1]), *folders)
    return filter_listing(files, [_unnamed_pair(*match) for match in matches])


def _unnamed_pair(key: str, blur: str, sharp: str) -> SourcePair:
    scene = str(PurePosixPath(key).parent)
    return SourcePair(key, key if scene == "." else scene, None, blur, sharp, PairKind.AUTO)
