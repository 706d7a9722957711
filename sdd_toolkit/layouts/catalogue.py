"""The layouts of published data sets: their fingerprints, and which files form pairs. Sources: docs/interop.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.layouts import sidecar
from sdd_toolkit.layouts.frame_bands import BandReader
from sdd_toolkit.layouts.frame_names import composed
from sdd_toolkit.layouts.listing import (
    Files,
    Listing,
    SourcePair,
    filter_listing,
    is_image,
    key_of,
    list_files,
)
from sdd_toolkit.layouts.split_names import choose_split, split_of_name, split_within
from sdd_toolkit.layouts.two_folders import FrameRoles, read_given_folders, read_roles
from sdd_toolkit.records import PairKind, Reason, RejectedFile
from sdd_toolkit.storage.files import check_relative
from sdd_toolkit.storage.system_files import system_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAX_JSON_BYTES = 1 << 20
_MAX_F_NUMBER = 1000.0


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of a data set.

    Attributes:
        frame_pattern: Its folders, in a few words.
        matches: Whether a folder has this layout.
        read: Function that lists the pairs of a folder.
    """

    frame_pattern: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Files, BandReader], Listing]


def _join_path(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _read_lfdof(root: Path, files: Files, bands: BandReader) -> Listing:
    """LFDOF: several refocused frames a light field, `input/NAME/NAME_….png` with `ground_truth/NAME.png`."""
    drafts = []
    for folder in _LFDOF_FOLDERS:
        split = choose_split(split_of_name(folder), root)
        truth = _join_path(folder, "ground_truth")
        sharp = {composed(key_of(path, truth)): path for path in files.below(truth) if is_image(path)}
        for path in files.below(_join_path(folder, "input")):
            scene = composed(PurePosixPath(path).parent.name)
            if is_image(path) and scene in sharp:
                stem = PurePosixPath(path).stem
                drafts.append(SourcePair(stem, scene, split, path, sharp[scene], PairKind.FOCUS))
    return filter_listing(files, drafts)


def _read_realbokeh(root: Path, files: Files, bands: BandReader) -> Listing:
    """RealBokeh: `metadata/SCENE.json` names the sharp frame (`in/`) and the wide-open ones (`gt/`)."""
    drafts: list[SourcePair] = []
    unpaired: list[RejectedFile] = []
    read: list[str] = []
    for folder in _REALBOKEH_FOLDERS:
        split = choose_split(split_of_name(folder), root)
        for path in files.below(_join_path(folder, "metadata")):
            if not path.endswith(".json"):
                continue
            try:
                sharp, blurs = _read_scene(root / path, folder)
            except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, ManifestError) as error:
                unpaired.append(RejectedFile(path, Reason.UNREADABLE, f"not the facts of a scene: {error}"[:200]))
                continue
            read.append(path)
            scene, sharp_path = PurePosixPath(path).stem, files.find(sharp)
            drafts += [
                SourcePair(PurePosixPath(blur).stem, scene, split, blur_path, sharp_path, PairKind.APERTURE, f_number)
                for blur, f_number in blurs
                if sharp_path is not None and (blur_path := files.find(blur)) is not None
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


def _has_one_of(*groups: tuple[str, ...]) -> Callable[[Path], bool]:
    """Whether a folder has all files and folders of one of the groups."""
    return lambda root: any(all((root / path).exists() for path in paths) for paths in groups)


def _two_folders(frame_pattern: str, roles: FrameRoles) -> Layout:
    return Layout(frame_pattern, lambda root: bool(roles.find(root)), partial(read_roles, roles))


def _read_export(root: Path, files: Files, bands: BandReader) -> Listing:
    return sidecar.read_sidecar(root, files)


SPLITS = ("train", "val", "test")
_LFDOF_FOLDERS = ("train_data", "test_data", "")
_REALBOKEH_FOLDERS = ("train", "validation", "val", "test", "")
_VIEW = "a dual-pixel view: only the combined picture is taken"
_SDD_FOLDERS = ("train", "train_patches", "val", "test", "")
SDD = FrameRoles(("blur",), ("gt",), PairKind.FOCUS, _SDD_FOLDERS, except_if={"train_patches": "train"})
PLAIN = FrameRoles(("blur",), ("sharp",), PairKind.AUTO, SPLITS)
DPDD = FrameRoles(
    ("source",),
    ("target",),
    PairKind.APERTURE,
    tuple(f"{split}_c" for split in SPLITS),
    by_order=True,
    ignored={f"{split}_{side}": _VIEW for split in SPLITS for side in "lr"},
)
REALDOF = FrameRoles(("source",), ("target",), PairKind.APERTURE, ("",), split="test", by_order=True)
RESTORMER = FrameRoles(
    ("inputC",), ("target",), PairKind.APERTURE, by_order=True, ignored={"inputL": _VIEW, "inputR": _VIEW}
)
NAFNET = FrameRoles(
    ("input", "LQ", "blur", "input_crops", "LQ_crops", "blur_crops"),
    ("target", "GT", "sharp", "target_crops", "GT_crops", "sharp_crops"),
    PairKind.AUTO,
    scene_folders=True,
)

# The order counts: the first layout that a folder has is taken.
LAYOUTS: dict[str, Layout] = {
    "exported": Layout("an export of `sdd export`", _has_one_of((sidecar.MARKER,)), _read_export),
    "dpdd": _two_folders("train_c|val_c|test_c/{source,target}", DPDD),
    "lfdof": Layout(
        "train_data|test_data/{input/NAME,ground_truth}",
        _has_one_of(*((_join_path(name, "input"), _join_path(name, "ground_truth")) for name in _LFDOF_FOLDERS)),
        _read_lfdof,
    ),
    "realbokeh": Layout(
        "train|validation|test/{in,gt,metadata}",
        _has_one_of(*((_join_path(name, "in"), _join_path(name, "gt")) for name in _REALBOKEH_FOLDERS)),
        _read_realbokeh,
    ),
    "sdd": _two_folders("train|train_patches|val|test/{blur,gt} or {blur,gt}", SDD),
    "png": _two_folders("train|val|test/{blur,sharp}", PLAIN),
    "realdof": _two_folders("{source,target}", REALDOF),
    "restormer": _two_folders("train|val|test/{inputC,target} or {inputC,target}", RESTORMER),
    "nafnet": _two_folders("train|val|test/{input|LQ|blur,target|GT|sharp} or without a split", NAFNET),
}
TWO_FOLDERS = "folders"
LAYOUT_NAMES = ("auto", *LAYOUTS, TWO_FOLDERS)


def survey_folder(
    root: Path, layout: str, blur: str | None = None, sharp: str | None = None, bands: BandReader | None = None
) -> tuple[str, Listing]:
    """The name of the layout of `root`, and its pairs and files.

    Args:
        root: Folder of the data set.
        layout: One of `LAYOUT_NAMES`; `auto` takes the first layout that is recognised.
        blur: For `folders`: the folder of the blurred frames, relative to `root`.
        sharp: The same for the sharp frames.
        bands: Reads the frames that are compared, and says which links are followed; None: in this process, none.

    Raises:
        InputError: No such folder, no layout fits, or the name is unknown.
        ManifestError: `blur` or `sharp` leaves `root`.
    """
    bands = bands or BandReader(root)
    files = list_files(root, follow_links=bands.follow_links)
    if blur is not None or sharp is not None or layout == TWO_FOLDERS:
        given = read_given_folders(root, files, *_check_given(layout, blur, sharp))
        return TWO_FOLDERS, _warn_of_split(given, root)
    name = recognise_layout(root) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise InputError(f"no layout is called {name!r}", hint=f"layouts: {', '.join(LAYOUT_NAMES)}")
    return name, _warn_of_split(LAYOUTS[name].read(root, files, bands), root)


def _warn_of_split(listing: Listing, root: Path) -> Listing:
    """Tells that the split of pairs comes from the path of the data set, and not from its own folders."""
    split = choose_split(None, root)
    count = sum(
        pair.origin is None and pair.split == split and not (split_within(pair.blur) or split_within(pair.sharp))
        for pair in listing.pairs
    )
    if split is None or not count:
        return listing
    what = f"{count} pairs are in the split {split!r}, which the path {root.absolute()} names"
    return replace(listing, warnings=(*listing.warnings, f"{what}; [pack.split] may list scenes anew"))


def recognise_layout(root: Path) -> str:
    """The name of the first layout with a fingerprint below `root`.

    Raises:
        InputError: None has one; names the folders that are there.
    """
    if name := _match_layout(root):
        return name
    folders = (path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    inner = sorted(path for path in folders if not system_folder(path.name))
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
    return next((name for name, layout in LAYOUTS.items() if layout.matches(root)), None)


def _check_given(layout: str, blur: str | None, sharp: str | None) -> tuple[str, str]:
    if layout not in ("auto", TWO_FOLDERS) or blur is None or sharp is None:
        raise InputError(
            f"the layout {layout!r} with --blur {blur} and --sharp {sharp}",
            hint="two folders need --blur DIR and --sharp DIR, and no other --layout",
        )
    return blur, sharp
