"""The description of an export: `export.json`, written first, and `metadata.jsonl`, one pair a line, written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.layouts.listing import Files, ImportedPair, Listing, SourcePair, filter_listing
from sdd_toolkit.pipeline import configurations
from sdd_toolkit.pipeline.manifest import parse_record, to_json
from sdd_toolkit.raw.development import Demosaic, LensCorrection
from sdd_toolkit.records import Reason, RejectedFile
from sdd_toolkit.shards.index import TRANSFER, Brightness, ShardHeader, Warp
from sdd_toolkit.storage.files import check_relative

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.records import PairRecord

MARKER = "export.json"
LINES = "metadata.jsonl"
PATCH_LINES = "patches.jsonl"
FORMAT, VERSION = "sdd-export", 1
SIDECAR_FILES = (MARKER, LINES, PATCH_LINES)


@dataclass(frozen=True, slots=True)
class Export:
    """Properties that all pairs of an export share, the content of `export.json`.

    Attributes:
        layout: Name of the layout.
        name: Name of the data set.
        encoding: Encoding of the pixel values.
        index_sha256: Of the `index.json` it was made from.
        split: The only split in it; None: all.
        patches: Whether training patches are there as files, too.
        toolkit: Version that wrote it.
        configs: See `Index`.
    """

    layout: str
    name: str
    encoding: Encoding
    index_sha256: str
    split: str | None
    patches: bool
    toolkit: str
    warp: Warp = Warp.HOMOGRAPHY
    brightness: Brightness = Brightness.GAIN
    demosaic: Demosaic = Demosaic.AHD
    lens_correction: LensCorrection = LensCorrection.NONE
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def header(self, split: str, patch_size: int, codec: str) -> ShardHeader:
        """The file attributes of a shard made from it."""
        processing = (self.warp, self.brightness, self.demosaic, self.lens_correction)
        return ShardHeader(split, self.encoding, patch_size, codec, *processing)


@dataclass(frozen=True, slots=True)
class PairLine:
    """One exported pair. Paths are relative to the export; `valid` is None where every pixel is valid."""

    id: str
    scene: str
    split: str
    blur: str
    sharp: str
    valid: str | None
    height: int
    width: int
    blur_sha256: str
    sharp_sha256: str
    box: tuple[int, int, int, int] | None
    record: dict[str, Any]


_EXPORT = TypeAdapter(Export)
_LINE = TypeAdapter(PairLine)


def marker_text(export: Export) -> str:
    """The text of `export.json`."""
    facts = {"format": FORMAT, "version": VERSION, **asdict(export), "transfer": TRANSFER[export.encoding]}
    return json.dumps(facts, ensure_ascii=False, indent=1) + "\n"


def read_marker(root: Path) -> Export | None:
    """The content of `export.json` in `root`; None if there is none.

    Raises:
        InputError: It is damaged, or of an unknown version.
    """
    path = root / MARKER
    try:
        content = json.loads(path.read_bytes())
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise InputError(f"{path} is of an unknown format", hint="use the version of the toolkit that wrote it")
        export = _EXPORT.validate_python(content)
        # Python's JSON accepts NaN and lone surrogates, an index does not.
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        return replace(export, configs=configurations.valid_configurations(export.configs))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} does not describe an export", hint="export again, or name --layout") from error


def line_text(line: PairLine) -> str:
    """One line of `metadata.jsonl`."""
    return to_json(line)


def read_sidecar(root: Path, files: Files) -> Listing:
    """The pairs of an export, from its `metadata.jsonl`.

    Raises:
        InputError: It is not finished, or holds archives.
    """
    export = read_marker(root)
    if export is None:
        raise InputError(f"{root} is no export: it has no {MARKER}", hint="name another --layout, or none")
    if export.layout == "webdataset":
        raise InputError(f"{root} holds archives", hint="import the shards they were made from, or another export")
    if LINES not in files.paths:
        raise InputError(f"{root} is an export that was not finished", hint="run the same `sdd export` again")
    drafts: list[SourcePair] = []
    present = set(files.paths)
    unpaired = [
        RejectedFile(path, Reason.DUPLICATE, "a patch: cut out of a frame") for path in _patch_paths(root, present)
    ]
    # Not splitlines: it would also split at U+2028, which an id may hold.
    for number, text in enumerate((root / LINES).read_bytes().split(b"\n"), 1):
        where = f"{LINES}, line {number}"
        try:
            if text.strip():
                drafts.append(_read_pair(text, where, files))
        except (ManifestError, ValidationError, ValueError, RecursionError) as error:
            what = error.what if isinstance(error, ManifestError) else f"{where} does not describe a pair"
            unpaired.append(RejectedFile(where, Reason.UNREADABLE, what[:200]))
    return filter_listing(files, drafts, unpaired, SIDECAR_FILES)


def _patch_paths(root: Path, present: set[str]) -> list[str]:
    """The files listed in `patches.jsonl`."""
    if PATCH_LINES not in present:
        return []
    paths: list[str] = []
    for text in (root / PATCH_LINES).read_bytes().split(b"\n"):
        try:
            entry = json.loads(text)
            paths += [path for path in (entry["blur"], entry["sharp"]) if path in present]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return paths


def _read_pair(text: bytes, where: str, files: Files) -> SourcePair:
    line = _LINE.validate_json(text)
    record = parse_record(to_json(line.record), where)
    blur, sharp = (_find_file(path, where, files) for path in (line.blur, line.sharp))
    valid = _find_file(line.valid, where, files) if line.valid else None
    if line.split not in ("train", "val", "test") or (record.id, record.scene) != (line.id, line.scene):
        raise ManifestError(f"{where}: it contradicts itself", hint="export again")
    origin = ImportedPair(record, line.blur_sha256, line.sharp_sha256, valid, line.box)
    return SourcePair(line.id, line.scene, line.split, blur, sharp, record.kind, origin=origin)


def _find_file(path: str, where: str, files: Files) -> str:
    """The file of a line; a copy through another system may have its name in another Unicode form."""
    check_relative(path, where)
    found = files.find(path)
    if found is None:
        raise ManifestError(f"{where}: there is no {path!r}", hint="export again")
    return found


def record_to_dict(record: PairRecord) -> dict[str, Any]:
    """A record as the plain JSON object of a `PairLine`."""
    plain: dict[str, Any] = json.loads(to_json(record))
    return plain
