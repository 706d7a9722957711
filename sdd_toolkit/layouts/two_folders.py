"""Data sets with a folder of blurred and a folder of sharp frames, once or in every split: their folders and pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.layouts.content_order import match_by_content
from sdd_toolkit.layouts.listing import (
    Files,
    Listing,
    SourcePair,
    filter_listing,
    images_by_key,
    is_image,
    match_by_name,
)
from sdd_toolkit.layouts.split_names import choose_split, split_of_name, split_within
from sdd_toolkit.records import PairKind, Reason, RejectedFile
from sdd_toolkit.storage.files import check_relative
from sdd_toolkit.storage.system_files import system_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sdd_toolkit.layouts.frame_bands import BandReader

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FrameFolders:
    """The folder of the blurred and that of the sharp frames, relative to the data set."""

    blur: str
    sharp: str


@dataclass(frozen=True, slots=True)
class FrameRoles:
    """The names of the two folders of a layout, the same in every split.

    Attributes:
        blur: Names of the folder of blurred frames, whatever their case; the first one that is there counts.
        sharp: Names of the folder of sharp frames.
        kind: What was changed between the shots.
        splits: The folders that hold the two; None: those that name a split, and the data set's own folder (empty).
        split: The split where no folder names one.
        by_order: Whether frames whose names do not tell the partner are paired by content.
        scene_folders: Whether the frames of one subfolder are one scene.
        ignored: Folders of other views, and the reason why their files are left out.
        except_if: Folders that are skipped if another folder exists, from whose frames theirs are cut.
    """

    blur: tuple[str, ...]
    sharp: tuple[str, ...]
    kind: PairKind
    splits: tuple[str, ...] | None = None
    split: str | None = None
    by_order: bool = False
    scene_folders: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)
    except_if: Mapping[str, str] = field(default_factory=dict)

    def find(self, root: Path) -> list[tuple[str, FrameFolders]]:
        """The folder that holds the two, and the two, for each split that is there."""
        found = []
        present = _subfolders(root)
        own = [name for name in present if split_of_name(name)] if self.splits is None else list(self.splits)
        for parent in ["", *own] if self.splits is None else own:
            inner = {name.lower(): name for name in (_subfolders(root / parent) if parent else present)}
            blur, sharp = (
                next((inner[name.lower()] for name in names if name.lower() in inner), None)
                for names in (self.blur, self.sharp)
            )
            if blur is not None and sharp is not None:
                found.append((parent, FrameFolders(_join(parent, blur), _join(parent, sharp))))
        return found


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not system_folder(path.name))
    except OSError:
        return []


def read_roles(roles: FrameRoles, root: Path, files: Files, bands: BandReader) -> Listing:
    """The pairs of a layout with two folders."""
    drafts: list[SourcePair] = []
    unpaired: list[RejectedFile] = []
    warnings: list[str] = []
    for parent, folders in roles.find(root):
        frames_folder = roles.except_if.get(parent)
        if frames_folder is not None and files.below(frames_folder):
            why = f"cut out of {frames_folder}"
            unpaired += [RejectedFile(path, Reason.DUPLICATE, why) for path in files.below(parent) if is_image(path)]
            continue
        matches, left_out = _match(roles, files, folders, bands)
        unpaired += left_out
        if left_out:
            warnings.append(_left_out_warning(folders, len(matches), left_out))
        drafts += [_source_pair(roles, folders, root, *match) for match in matches]
    for path in filter(is_image, files.paths):
        reasons = [roles.ignored[name] for name in PurePosixPath(path).parts[:-1] if name in roles.ignored]
        unpaired += [RejectedFile(path, Reason.UNSUPPORTED, why) for why in reasons[:1]]
    return filter_listing(files, drafts, unpaired, warnings=warnings)


def _match(
    roles: FrameRoles, files: Files, folders: FrameFolders, bands: BandReader
) -> tuple[list[tuple[str, str, str]], list[RejectedFile]]:
    """(key, blurred, sharp) of each pair, by name or by content; and the frames that content leaves without partner."""
    blurs, sharps = (images_by_key(files.below(folder), folder) for folder in (folders.blur, folders.sharp))
    named = match_by_name(blurs, sharps, mostly=roles.by_order)
    if named or not roles.by_order or not blurs or not sharps:
        return named, []
    first, second = sorted(blurs.values()), sorted(sharps.values())
    matches = match_by_content(first, second, bands([*first, *second]))
    keys = {path: key for key, path in blurs.items()}
    left_out = [RejectedFile(path, Reason.NO_PARTNER, why) for path, why in sorted(matches.left_out.items())]
    return [(keys[blur], blur, sharp) for blur, sharp in matches.pairs], left_out


def _left_out_warning(folders: FrameFolders, pairs: int, left_out: list[RejectedFile]) -> str:
    shown = "; ".join(f"{entry.path}: {entry.detail}" for entry in left_out[:_SHOWN])
    more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    return (
        f"{folders.blur} and {folders.sharp}: the names do not tell the partners; {pairs} pairs agree in content, "
        f"{len(left_out)} frames are left out ({shown}{more})"
    )


def _source_pair(roles: FrameRoles, folders: FrameFolders, root: Path, key: str, blur: str, sharp: str) -> SourcePair:
    named = split_within(folders.blur) or split_within(folders.sharp) or split_within(str(PurePosixPath(key).parent))
    scene = _scene_of(key) if roles.scene_folders else key
    return SourcePair(key, scene, choose_split(named, root, roles.split), blur, sharp, roles.kind)


def _scene_of(key: str) -> str:
    """The subfolders of a frame, without those that name a split; the frame itself if there is none."""
    folders = [name for name in PurePosixPath(key).parts[:-1] if split_of_name(name) is None]
    return "/".join(folders) or key


def read_given_folders(root: Path, files: Files, blur: str, sharp: str) -> Listing:
    """The pairs of two folders that were named by hand.

    Args:
        root: Folder of the data set.
        files: Its files.
        blur: Folder of the blurred frames, relative to `root`.
        sharp: Folder of the sharp frames.

    Raises:
        InputError: One lies in the other, or they name different splits.
        ManifestError: One leaves `root`.
    """
    folders = FrameFolders(*(files.find_folder(str(PurePosixPath(folder))) for folder in (blur, sharp)))
    for folder in (folders.blur, folders.sharp):
        check_relative(folder, str(root))
    nested = [f"{folder}/" for folder in (folders.blur, folders.sharp)]
    if nested[0].startswith(nested[1]) or nested[1].startswith(nested[0]):
        raise InputError(f"{blur} and {sharp} lie one in the other", hint="give two folders beside each other")
    splits = [split_within(folder) for folder in (folders.blur, folders.sharp)]
    if None not in splits and splits[0] != splits[1]:
        raise InputError(
            f"{blur} names the split {splits[0]} and {sharp} the split {splits[1]}",
            hint="a pair is in one split: give two folders of the same",
        )
    roles = FrameRoles((), (), PairKind.AUTO, scene_folders=True)
    keyed = [images_by_key(files.below(folder), folder) for folder in (folders.blur, folders.sharp)]
    matches = match_by_name(keyed[0], keyed[1])
    pairs = [_source_pair(roles, folders, root, *match) for match in matches]
    return filter_listing(files, pairs)
