"""Reads and writes `index.json`: the contents of a shard folder and the hashes to verify it by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.imaging.encoding import Encoding, Transfer
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.raw.development import HIGHLIGHTS, Demosaic, LensCorrection
from sdd_toolkit.records import Reason, ShardInfo
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sdd_toolkit.storage.locations import Location

IndexT = TypeVar("IndexT")
FORMAT = "sdd-shards"
VERSION = 1
INDEX_NAME = "index.json"
_PACK_AGAIN = "run `sdd pack` again"
# The codecs that can be read; listed here so that reading an index does not import the HDF5 plugins.
KNOWN_CODECS = ("blosc2-bitshuffle-lz4", "htj2k", "none", "gzip", "bitshuffle-lz4")
_SRGB = "s = 12.92 v if v <= 0.0031308 else 1.055 v^(1/2.4) - 0.055"
_LINEAR_LIGHT = "v = linear light, sRGB primaries, D65, clipped to 0 ... 1"
TRANSFER: Mapping[Encoding, str] = {
    Encoding.SRGB8: f"uint8 = round(255 s); {_SRGB}; {_LINEAR_LIGHT}",
    Encoding.SRGB16: f"uint16 = round(65535 s); {_SRGB}; {_LINEAR_LIGHT}",
    Encoding.LINEAR16: f"uint16 = round(65535 v); {_LINEAR_LIGHT}",
}


class Warp(StrEnum):
    """The warp of the blurred frames onto the sharp ones: the global transform alone, or the residual flow too."""

    HOMOGRAPHY = "homography"
    HOMOGRAPHY_FLOW = "homography+flow"


class Brightness(StrEnum):
    """The brightness correction of the blurred frames: one gain, or the whole photometric model."""

    GAIN = "gain"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """Properties that all pairs of a shard share; stored as its file attributes."""

    split: str
    encoding: Encoding
    patch_size: int
    codec: str = "blosc2-bitshuffle-lz4"
    warp: Warp = Warp.HOMOGRAPHY
    brightness: Brightness = Brightness.GAIN
    demosaic: Demosaic = Demosaic.AHD
    lens_correction: LensCorrection = LensCorrection.NONE


@dataclass(frozen=True, slots=True)
class FailedPair:
    """A pair that could not be packed, and the reason."""

    id: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """The content of `index.json`, which describes a folder of shards.

    Attributes:
        name: Name of the data set.
        encoding: Encoding of the pixel values.
        transfer: The exact transfer curve as text.
        patch_size: Edge of the patches in px.
        codec: How arrays are stored: one of `KNOWN_CODECS`.
        warp: The warp of the blurred frames onto the sharp ones.
        brightness: The brightness correction of the blurred frames.
        demosaic: The demosaicing of RAW files.
        highlights: The treatment of light above white.
        lens_correction: The lens model that distortion and vignetting were corrected by.
        reduction: Full-size pixels along one edge of a packed pixel; records use full-size pixels.
        transfer_parameters: The transfer curve as numbers, see `encoding.Transfer`.
        toolkit: Version of the toolkit that packed it.
        config: Fingerprint of the packing configuration.
        splits: The scenes of each split; no scene is in two.
        shards: In reading order.
        plans: By shard name, the fingerprint of everything its bytes depend on; equal plans give equal bytes.
        failed: Pairs that could not be packed, and files of an imported folder that are in no pair.
        configs: The configurations of all steps by their fingerprint: `stage` and `values`.
        libraries: The versions of the libraries that processed the pixels.
        history: One sentence for each time the set was made from other sets; empty if it was packed.
    """

    name: str
    encoding: Encoding
    transfer: str
    patch_size: int
    codec: str
    toolkit: str
    config: str
    splits: dict[str, tuple[str, ...]]
    shards: tuple[ShardInfo, ...]
    plans: dict[str, str] = field(default_factory=dict)
    failed: tuple[FailedPair, ...] = ()
    warp: Warp = Warp.HOMOGRAPHY
    brightness: Brightness = Brightness.GAIN
    demosaic: Demosaic = Demosaic.AHD
    highlights: str = HIGHLIGHTS
    lens_correction: LensCorrection = LensCorrection.NONE
    reduction: int = 1
    transfer_parameters: Transfer | None = None
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    history: tuple[str, ...] = ()

    def header(self, split: str) -> ShardHeader:
        """The file attributes of every shard of a split."""
        return ShardHeader(
            split,
            self.encoding,
            self.patch_size,
            self.codec,
            self.warp,
            self.brightness,
            self.demosaic,
            self.lens_correction,
        )


_INDEX = TypeAdapter(Index)


def header_attributes(header: ShardHeader) -> dict[str, str | int]:
    """The file attributes of a shard."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "toolkit": __version__,
        "split": header.split,
        "encoding": header.encoding.value,
        "transfer": TRANSFER[header.encoding],
        "codec": header.codec,
        "patch_size": header.patch_size,
        "warp": header.warp.value,
        "brightness": header.brightness.value,
        "demosaic": header.demosaic.value,
        "highlights": HIGHLIGHTS,
        "lens_correction": header.lens_correction.value,
        "reduction": 2 if header.demosaic is Demosaic.HALF else 1,
        "transfer_parameters": to_json(header.encoding.transfer),
    }


def header_of(attributes: Mapping[str, Any]) -> ShardHeader:
    """The header in a shard's file attributes; the first shards have fewer."""
    return ShardHeader(
        split=str(attributes["split"]),
        encoding=Encoding(attributes["encoding"]),
        patch_size=int(attributes["patch_size"]),
        codec=str(attributes["codec"]),
        warp=Warp(attributes.get("warp", Warp.HOMOGRAPHY)),
        brightness=Brightness(attributes.get("brightness", Brightness.GAIN)),
        demosaic=Demosaic(attributes.get("demosaic", Demosaic.AHD)),
        lens_correction=LensCorrection(attributes.get("lens_correction", LensCorrection.NONE)),
    )


def index_text(index: Index) -> str:
    """The text of `index.json`; equal indexes give equal bytes."""
    content = {"format": FORMAT, "version": VERSION, **json.loads(to_json(index))}
    return text_with_sha256(content)


def text_with_sha256(content: dict[str, Any]) -> str:
    """The text of an index with this content, its own SHA-256 at the end."""
    return to_indented_json({**content, "sha256": _content_sha256(content)})


def to_indented_json(content: object) -> str:
    """JSON text in the format of the index: one space a level, a newline at the end."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def write_index(folder: Location, index: Index) -> Location:
    """Writes `index.json` atomically."""
    path = folder / INDEX_NAME
    write_text(path, index_text(index))
    return path


def read_index(folder: Location) -> Index:
    """Reads and validates `index.json`.

    Raises:
        InputError: No index there, or one of another format or version.
        IntegrityError: The index is damaged.

    Example:
        >>> from pathlib import Path
        >>> index = read_index(Path("shards"))
        >>> index.codec, index.splits["train"], [shard.pairs for shard in index.shards]
        ('blosc2-bitshuffle-lz4', ('scene',), [('scene/01',)])
    """
    return read_index_as(folder, FORMAT, _INDEX)


def read_index_as(folder: Location, kind: str, fields: TypeAdapter[IndexT]) -> IndexT:
    """Reads the `index.json` of a folder in the format `kind`; `fields` validates its content.

    Raises:
        InputError: No index there, or one of another format, version or codec than can be read.
        IntegrityError: The index is damaged.
    """
    path = folder / INDEX_NAME
    content = _read_verified_json(path)
    if (content["format"], content["version"]) != (kind, VERSION):
        raise unknown_format_error(path, content["format"], content["version"], kind)
    if content.get("codec") not in KNOWN_CODECS:
        raise unknown_codec_error(path, content.get("codec"))
    try:
        return fields.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        field_path = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{path}: {field_path}: {first['msg']}", hint=_PACK_AGAIN) from error


def _read_verified_json(path: Location) -> dict[str, Any]:
    """The content of an index of any format and version, verified against its own SHA-256."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["format"], content["version"]
    except OSError as error:
        raise InputError(f"no readable {path}", hint="give the folder `sdd pack` wrote") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{path} is not an index of shards", hint=_PACK_AGAIN) from error
    # Before the format is compared: a flipped bit may have changed it. The rule is the same in every version.
    if content.pop("sha256", None) != _content_sha256(content):
        raise IntegrityError(f"{path} was altered: its content does not match its own sha256", hint=_PACK_AGAIN)
    return content


def _content_sha256(content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def damaged_shard_error(shard: str, what: str) -> IntegrityError:
    """The error for a shard whose bytes differ from the index."""
    return IntegrityError(f"{shard}: {what}", hint="restore this file from its source, or run `sdd pack` again")


def unknown_codec_error(path: Location, codec: object) -> InputError:
    """The error for a file stored in a way this toolkit cannot read."""
    return InputError(
        f"{path} has the unknown codec {codec!r}, this toolkit reads {', '.join(KNOWN_CODECS)}",
        hint="install the toolkit version that packed it, or pack again",
    )


def unknown_format_error(path: Location, format_name: object, version: object, kind: str = FORMAT) -> InputError:
    """The error for a file of another format or version than this toolkit reads."""
    return InputError(
        f"{path} has format {format_name!r} version {version!r}, this toolkit reads {kind!r} version {VERSION}",
        hint="install the toolkit version that packed it, or pack again",
    )
