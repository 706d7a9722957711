"""The transform of an aligned pair as a small self-describing JSON file, with strict validation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.orientation import ORIENTATIONS, UPRIGHT
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import REASON_TEXT, Row
from sdd_toolkit.storage.files import resolve_inside, write_bytes, write_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.records import Alignment, PairRecord

FORMAT = "sdd-transform"
VERSION = 1
CONVENTION = (
    "(x, y) of a pixel's centre, (0, 0) the centre of the top left pixel of the upright frame, x right, y down. "
    "homography maps the blurred frame to the sharp one: (x, y, 1) to homography (x, y, 1), divided by its third "
    "entry. The aligned frame shows at a pixel y what the blurred frame holds at q = inverse(homography) y, moved away "
    "from the centre ((width - 1) / 2, (height - 1) / 2) by the factor 1 + radial r^2, r the distance of q from the "
    "centre in half diagonals, hypot(width, height) / 2. In linear light, sharp = gain colour_gain (1 + a r^2 + b r^4) "
    "aligned + offset, with [a, b] = vignetting and r that of y. size is [height, width]. With a turn, the upright "
    "blurred frame is turned by that EXIF orientation (1 to 8) before all of this."
)
_SUFFIX = ".json"
_SMALLEST_DETERMINANT = 1e-9


@dataclass(frozen=True, slots=True)
class Transform:
    """Geometry and brightness of a blurred frame relative to its sharp one; `CONVENTION` is the definition.

    Attributes:
        blur: Name of the blurred frame's file.
        sharp: Name of the sharp frame's file.
        size: (height, width) of both upright frames.
        homography: 3x3 row by row, blurred to sharp, full-size pixels.
        model: `identity`, `similarity`, `affine` or `homography`.
        radial: k of the radial term of `sdd_toolkit.records.Alignment`.
        gain: Linear gain, blurred to sharp.
        colour_gain: Gain of R, G, B relative to `gain`.
        vignetting: (a, b) of the gain's change over the frame.
        offset: Linear light added after the gain.
        error_px: Estimated error at the corners.
        flow: Name of the npz in the same folder that holds the residual flow; None if there is none.
        turn: EXIF orientation by which the upright blurred frame is turned first, where the tags of the frames differ.
    """

    blur: str
    sharp: str
    size: tuple[int, int]
    homography: tuple[Row, Row, Row]
    model: str
    radial: float = 0.0
    gain: float = 1.0
    colour_gain: Row = (1.0, 1.0, 1.0)
    vignetting: tuple[float, float] = (0.0, 0.0)
    offset: float = 0.0
    error_px: float | None = None
    flow: str | None = None
    turn: int = UPRIGHT
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The homography as (3, 3) float64."""
        return np.array(self.homography, dtype=np.float64)


def from_alignment(alignment: Alignment, blur: str, sharp: str) -> Transform:
    """The transform of an alignment between two named files, without its flow."""
    return Transform(
        blur=blur,
        sharp=sharp,
        size=alignment.size,
        homography=alignment.rows,
        model=alignment.model,
        radial=alignment.radial,
        gain=alignment.gain,
        colour_gain=alignment.colour_gain,
        vignetting=alignment.vignetting,
        offset=alignment.offset,
        error_px=alignment.error_px,
    )


def from_pair(record: PairRecord) -> Transform:
    """The transform of an aligned pair, without its flow.

    Raises:
        InputError: The pair was never aligned, or could not be.
    """
    alignment = record.alignment
    if alignment is None:
        hint = record.verdict.detail if record.verdict else "run `sdd align` first"
        raise InputError(f"the pair {record.id!r} is not aligned", hint=hint or "see its verdict in the manifest")
    if alignment.failure is not None:
        raise InputError(
            f"the pair {record.id!r} could not be aligned: {REASON_TEXT[alignment.failure]}", hint=alignment.detail
        )
    transform = from_alignment(alignment, Path(record.blur.path).name, Path(record.sharp.path).name)
    return replace(transform, turn=record.blur_turn)


def write_transform(path: Path, transform: Transform) -> None:
    """Writes a transform atomically, one entry per line."""
    values = asdict(transform)
    if transform.turn == UPRIGHT:
        del values["turn"]
    affine = values["homography"][:2] if values["homography"][2] == (0.0, 0.0, 1.0) else None
    entries = {"format": FORMAT, "version": VERSION, "convention": CONVENTION, **values, "affine": affine}
    lines = [f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in entries.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_transform(path: Path) -> Transform:
    """Reads a transform from its JSON file.

    Raises:
        InputError: Missing, no transform, of another version, or with an entry that is missing, unknown or wrong.
    """
    hint = "it must be a .json that `sdd align` wrote, or an aligned.jsonl"
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read the transform {path}", hint=hint) from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f"{path} is not a transform", hint=hint)
    if (version := content.pop("version", None)) != VERSION:
        raise InputError(
            f"{path} has transform version {version!r}, this toolkit reads {VERSION}",
            hint="use the toolkit version that wrote it, or align again",
        )
    content.pop("convention", None)
    affine = content.pop("affine", None)
    try:
        transform = TypeAdapter(Transform).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {entry}: {first['msg']}", hint="restore the entry or align again") from error
    if fault := _find_fault(transform, affine):
        raise InputError(f"{path}: {fault}", hint="restore the entry or align again")
    return transform


def load_transform(source: Path, pair_id: str | None = None) -> tuple[Transform, Path | None]:
    """Loads a transform from its own file or from a manifest.

    Args:
        source: A transform's `.json`, or an `aligned.jsonl`.
        pair_id: Id of a pair of the manifest; may be None if it holds one pair.

    Returns:
        The transform, and the path of its flow, if it has one.

    Raises:
        InputError: It cannot be read, or the manifest has no such pair or no transform of it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from alignment.transforms.transform import Transform, load_transform, write_transform
        >>> rows = ((1.0, 0.0, 2.5), (0.0, 1.0, -1.0), (0.0, 0.0, 1.0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_transform(Path(folder) / "pair.json", Transform("b.png", "s.png", (480, 640), rows, "similarity"))
        ...     transform, flow_file = load_transform(Path(folder) / "pair.json")
        >>> transform.model, transform.matrix[0, 2].item(), flow_file
        ('similarity', 2.5, None)
    """
    if source.suffix == _SUFFIX:
        if pair_id is not None:
            raise InputError(f"{source} holds one transform and no pair {pair_id!r}", hint="leave out --pair-id")
        transform = read_transform(source)
        return transform, None if transform.flow is None else source.parent / transform.flow
    records = {record.id: record for record in manifest.read_manifest(source).records}
    if pair_id is None and len(records) != 1:
        raise InputError(f"{source} holds {len(records)} pairs", hint="choose one: --pair-id ID")
    record = records.get(pair_id) if pair_id is not None else next(iter(records.values()))
    if record is None:
        known = ", ".join(sorted(records)[:5])
        raise InputError(f"{source} has no pair {pair_id!r}", hint=f"it has {known}{', …' if len(records) > 5 else ''}")
    flow = record.alignment.flow_file if record.alignment else None
    return from_pair(record), None if flow is None else resolve_inside(source.parent, flow)


def exported_files(manifest_file: Path, folder: Path) -> list[Path]:
    """The files that `export_transforms` may write for the pairs of a manifest."""
    ids = [record.id for record in manifest.read_manifest(manifest_file).records]
    return [folder / f"{name}{end}" for name in ids for end in (_SUFFIX, "_flow.npz")]


def export_transforms(aligned: Path, folder: Path) -> list[Path]:
    """Writes `ID.json`, and `ID_flow.npz` if there is a flow, for every aligned pair of a manifest.

    Args:
        aligned: `aligned.jsonl` of `sdd align`.
        folder: Folder of the exported files.

    Returns:
        The JSON files, one per aligned pair.

    Raises:
        ManifestError: `aligned` is not a manifest.
        InputError: The folder cannot be written, or a flow is missing.
    """
    written = []
    for record in manifest.read_manifest(aligned).records:
        if record.alignment is None or record.alignment.failure is not None:
            continue
        transform = from_pair(record)
        if record.alignment.flow_file is not None:
            name = f"{record.id}_flow.npz"
            transform = replace(transform, flow=name)
            _copy_flow(resolve_inside(aligned.parent, record.alignment.flow_file), folder / name)
        target = folder / f"{record.id}{_SUFFIX}"
        write_transform(target, transform)
        written.append(target)
    return written


def describe_transform(transform: Transform) -> str:
    """Shift, zoom, rotation, brightness and error of a transform on one line of text."""
    components = geometry.decompose(transform.matrix, transform.size)
    right, down = components.shift_px
    parts = [
        f"shift {right:+.2f} {down:+.2f} px",
        f"zoom {components.zoom:.5f}",
        f"rotation {components.rotation_deg:+.3f}°",
    ]
    parts.append(f"brightness {np.log2(transform.gain):+.2f} EV")
    if transform.error_px is not None:
        parts.append(f"estimated error {transform.error_px:.2f} px")
    return ", ".join(parts)


def scale_between(size: tuple[int, int], transform: Transform) -> Fraction | None:
    """Size of a frame of `size` = (height, width) relative to those of `transform`; None unless it is n or 1/n.

    An odd last row or column, which development crops, does not count.
    """
    for height, width in (size, (size[0] // 2 * 2, size[1] // 2 * 2)):
        scale = Fraction(height, transform.size[0])
        whole = scale > 0 and 1 in (scale.numerator, scale.denominator)
        if whole and scale == Fraction(width, transform.size[1]):
            return scale
    return None


def _copy_flow(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the flow {source}", hint="run `sdd align` again to restore it") from error
    write_bytes(target, content)


def _find_fault(transform: Transform, affine: Any) -> str:
    """A fault of values that have the right types; empty if there is none."""
    matrix, (height, width) = transform.matrix, transform.size
    if min(height, width) < 1:
        return f"size: {height} x {width} px"
    if matrix[2, 2] == 0 or abs(np.linalg.det(matrix / matrix[2, 2])) < _SMALLEST_DETERMINANT:
        return "homography: it cannot be inverted"
    if (np.column_stack([geometry.corners(transform.size), np.ones(4)]) @ (matrix[2] / matrix[2, 2]) <= 0).any():
        return "homography: it sends a part of the frame to infinity"
    if not transform.gain > 0:
        return f"gain: {transform.gain:g}"
    if affine is not None and affine != [list(row) for row in transform.homography[:2]]:
        return "affine: not the first two rows of homography"
    if transform.turn not in ORIENTATIONS:
        return f"turn: {transform.turn} is no EXIF orientation"
    if transform.flow is not None and Path(transform.flow).name != transform.flow:
        return "flow: must be the name of a file in the same folder"
    return ""
