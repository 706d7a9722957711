"""Lists the files of a data set folder and matches blurred with sharp frames by name; reads no file."""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES
from sdd_toolkit.layouts.frame_names import by_form, composed, equal_names, safe_ids, unprintable_reason
from sdd_toolkit.pipeline.manifest import is_file_name
from sdd_toolkit.records import PairKind, Reason, RejectedFile
from sdd_toolkit.storage.linked_stores import resolve_source
from sdd_toolkit.storage.system_files import system_file, system_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sdd_toolkit.records import PairRecord

Box = tuple[int, int, int, int]
LEADS_OUT = "a link that leads out of the folder"
_SEARCHED = "a folder that is searched already"
_LEADS_NOWHERE = "a link to a file that is not there: was it fetched?"


@dataclass(frozen=True, slots=True)
class ImportedPair:
    """A pair as an export of this toolkit describes it.

    Attributes:
        record: The pair's record at the time of the export.
        blur_sha256: Of the blurred frame's file.
        sharp_sha256: Of the sharp frame's file.
        valid: The file of its mask; None: every pixel is valid.
        box: Where its arrays lie on the uncropped sharp frame.
    """

    record: PairRecord
    blur_sha256: str
    sharp_sha256: str
    valid: str | None
    box: Box | None


@dataclass(frozen=True, slots=True)
class SourcePair:
    """Two files of a data set that form a pair; paths are relative to its folder.

    Attributes:
        id: Unique in the data set.
        scene: Name shared by the pairs of one subject.
        split: `train`, `val` or `test`; None where the layout has no splits.
        blur: Path of the blurred frame.
        sharp: Path of the sharp frame.
        kind: What was changed between the shots.
        f_number: Of the blurred frame, where the layout has it.
        origin: The exported pair, if the folder is an export of this toolkit.
    """

    id: str
    scene: str
    split: str | None
    blur: str
    sharp: str
    kind: PairKind
    f_number: float | None = None
    origin: ImportedPair | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The pairs of a folder, sorted by id, and every other file with the reason why it is in none.

    Attributes:
        pairs: The pairs.
        unpaired: The other files.
        warnings: What the user should know about how the pairs and splits were found.
    """

    pairs: tuple[SourcePair, ...]
    unpaired: tuple[RejectedFile, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """The files below a folder as sorted POSIX paths, and those that were refused."""

    paths: tuple[str, ...]
    refused: tuple[RejectedFile, ...] = ()

    def below(self, folder: str) -> tuple[str, ...]:
        """The paths below `folder`; all for the empty one."""
        return self.paths if not folder else tuple(path for path in self.paths if path.startswith(folder + "/"))

    def find(self, path: str) -> str | None:
        """The path that equals `path`, in any Unicode form; None if there is none."""
        return path if path in self._present else self._forms.get(composed(path))

    def find_folder(self, folder: str) -> str:
        """The folder of some file that equals `folder`, in any Unicode form; `folder` itself if there is none."""
        depth = folder.count("/") + 1
        heads = {"/".join(path.split("/")[:depth]) for path in self.paths}
        return folder if folder in heads else by_form(heads).get(composed(folder), folder)

    @cached_property
    def _present(self) -> frozenset[str]:
        return frozenset(self.paths)

    @cached_property
    def _forms(self) -> dict[str, str]:
        return by_form(self.paths)


def list_files(root: Path, *, follow_links: bool = False) -> Files:
    """Every file below `root`, but hidden ones and those of the system (`storage.system_files`).

    Links to folders are not followed, links that lead out are refused unless they lead into a content-addressed store
    (`storage.linked_stores`).

    Args:
        root: Folder of a data set.
        follow_links: Follow every link, also those to folders; each folder is searched once, if it lies below `root`
            under its own path.

    Raises:
        InputError: There is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}", hint="check the path")
    paths: list[str] = []
    refused: list[RejectedFile] = []
    for folder, names, left_out in _walk(str(root), follow_links):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        refusals = left_out | {name: _refusal(root, prefix + name, follow_links) for name in names}
        paths += [prefix + name for name, why in refusals.items() if not why]
        refused += [
            RejectedFile(_printable(prefix + name), Reason.UNSUPPORTED, why) for name, why in refusals.items() if why
        ]
    return Files(tuple(sorted(paths)), tuple(refused))


def _walk(root: str, follow_links: bool) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Every folder, the names of its files, and the reasons against subfolders; those behind links come last."""
    searched: set[str] = set()
    starts = deque([root])
    while starts:
        start = starts.popleft()
        if os.path.realpath(start) in searched:
            yield os.path.dirname(start), [], {os.path.basename(start): _SEARCHED}
            continue
        for folder, folders, names in os.walk(start):
            searched.add(os.path.realpath(folder))
            left_out: dict[str, str] = {}
            for name in sorted(folders):
                path = os.path.join(folder, name)
                if why := system_folder(name):
                    left_out[name] = f"{why}, not searched"
                elif os.path.islink(path) and follow_links:
                    starts.append(path)
                elif os.path.islink(path):
                    left_out[name] = "a link to a folder"
                elif os.path.realpath(path) in searched:  # below a link
                    left_out[name] = _SEARCHED
            folders[:] = sorted(name for name in folders if name not in left_out)
            yield folder, names, left_out


def _refusal(root: Path, path: str, follow_links: bool) -> str:
    if why := system_file(PurePosixPath(path).name):
        return why
    if why := unprintable_reason(path):
        return why
    try:
        found = resolve_source(root, path, follow_links=follow_links)
    except ManifestError:
        return LEADS_OUT if (root / path).exists() else _LEADS_NOWHERE
    if found.is_file():
        return ""
    return _LEADS_NOWHERE if found.is_symlink() else "not a file"


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)[1:-1]


def is_image(path: str) -> bool:
    """Whether the suffix is one of a PNG, TIFF or JPEG file."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def key_of(path: str, folder: str) -> str:
    """The key that both frames of a pair share: the path below `folder` without its suffix."""
    below = path[len(folder) + 1 :] if folder else path
    return below.removesuffix(PurePosixPath(below).suffix)


def match_by_name(
    blurs: Mapping[str, str], sharps: Mapping[str, str], *, mostly: bool = False
) -> list[tuple[str, str, str]]:
    """Frames of the same name in two folders, in any Unicode form, as (key, blurred, sharp).

    Args:
        blurs: The blurred frames by key, see `images_by_key`.
        sharps: The sharp frames by key.
        mostly: Nothing, if fewer than half of the smaller folder have a partner: equal names are then a coincidence.
    """
    common = equal_names(blurs, sharps)
    if mostly and 2 * len(common) < min(len(blurs), len(sharps)):
        return []
    return [(key, blurs[key], sharps[other]) for key, other in common]


def images_by_key(paths: Iterable[str], folder: str) -> dict[str, str]:
    """The images below `folder` by their key; of two that differ in their suffix only, the first."""
    keyed: dict[str, str] = {}
    for path in sorted(filter(is_image, paths)):
        keyed.setdefault(key_of(path, folder), path)
    return keyed


def assign_ids(drafts: Sequence[SourcePair]) -> tuple[SourcePair, ...]:
    """Makes ids unique and puts each scene into one split; returns the pairs sorted by id.

    If a name occurs in two splits, the split is put before all names. Pairs of an export keep their id and scene, those
    of others are made safe for file names (`frame_names.safe_ids`).
    """
    new = [pair for pair in drafts if pair.origin is None]
    ids, scenes = safe_ids(pair.id for pair in new), safe_ids(pair.scene for pair in new)
    flat = [
        replace(pair, id=ids[pair.id], scene=scenes[pair.scene]) if pair.origin is None else pair for pair in drafts
    ]
    ids_repeat = len({pair.id for pair in flat}) < len(flat)
    scene_splits = {(pair.scene, pair.split) for pair in flat}
    scenes_repeat = len({scene for scene, _ in scene_splits}) < len(scene_splits)
    renamed = [
        replace(
            pair,
            id=f"{pair.split}-{pair.id}" if ids_repeat and pair.split else pair.id,
            scene=f"{pair.split}-{pair.scene}" if scenes_repeat and pair.split else pair.scene,
        )
        for pair in flat
    ]
    return tuple(sorted(renamed, key=lambda pair: pair.id))


def filter_listing(
    files: Files,
    drafts: Sequence[SourcePair],
    unpaired: Iterable[RejectedFile] = (),
    read: Iterable[str] = (),
    warnings: Iterable[str] = (),
) -> Listing:
    """The listing of a folder: pairs with unique ids, and every file that is in none.

    Args:
        files: All files.
        drafts: The pairs, their ids still as in the file names.
        unpaired: Files that have a reason already; the others are images without partner, or no images.
        read: Files with metadata that the layout has read.
        warnings: See `Listing`.
    """
    pairs = assign_ids(drafts)
    counts = Counter(pair.id for pair in pairs)
    good: list[SourcePair] = []
    rejected = {entry.path: entry for entry in (*unpaired, *files.refused)}
    for pair in pairs:
        if counts[pair.id] == 1 and is_file_name(pair.id):
            good.append(pair)
            continue
        why = "its name cannot be an id" if counts[pair.id] == 1 else f"another pair has the id {pair.id!r}"
        for path in (pair.blur, pair.sharp):
            rejected.setdefault(path, RejectedFile(path, Reason.UNSUPPORTED, why))
    used = {path for pair in good for path in (pair.blur, pair.sharp)} | set(read)
    used |= {pair.origin.valid for pair in good if pair.origin is not None and pair.origin.valid is not None}
    for path in files.paths:
        if path not in used and path not in rejected:
            alone = RejectedFile(path, Reason.NO_PARTNER)
            rejected[path] = alone if is_image(path) else RejectedFile(path, Reason.UNSUPPORTED, "not a picture")
    unused = [entry for path, entry in rejected.items() if path not in used]
    return Listing(tuple(good), tuple(sorted(unused, key=lambda entry: entry.path)), tuple(warnings))
