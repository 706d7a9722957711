"""Fuses one focal stack on disk: the all-in-focus picture, the map of its origins, and a record of both."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import TypeAdapter, ValidationError

from alignment.fusion import blending
from alignment.registration.register import register
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES
from sdd_toolkit.formats.embedding import EmbeddedMetadata
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.frames.writing import write_image, write_values
from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.imaging.frame import CameraFrame, preview
from sdd_toolkit.metadata import exif_block
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.file_metadata import embeddable, read_file_metadata
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.quality import sharpness
from sdd_toolkit.raw import dng
from sdd_toolkit.records import Reason, Row
from sdd_toolkit.storage.files import sha256_of, write_bytes, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from alignment.config import AlignConfig
    from sdd_toolkit.imaging.frame import HalfFrame

    Image = NDArray[np.float32]
    Places = NDArray[np.int32]
    Matrix = NDArray[np.float64]

FORMAT = "sdd-fusion"
VERSION = 1
MAX_FRAMES = 255
_WHITE = 65535
_CHECK_WIDTH_PX = 800
_CHECK_GAP_PX = 8
_MAX_FLOAT16 = 6e4  # float16 ends at 65504
_IDENTITY: tuple[Row, Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class StackFrame:
    """A frame of a stack: its registration and its share in the picture, or the reason it was left out.

    Attributes:
        path: The file, as named by the caller.
        rows: 3x3 homography to the reference frame, full-size pixels, row by row.
        gain: Linear gain to the reference frame's brightness.
        error_px: Estimated corner error of the registration; 0 for the reference frame.
        share: Share of the pixels of the fused picture that come from it.
        reason: Reason for leaving it out; None if it was used.
        detail: Measured value behind the reason.
    """

    path: str
    rows: tuple[Row, Row, Row] = _IDENTITY
    gain: float = 1.0
    error_px: float = 0.0
    share: float = 0.0
    reason: Reason | None = None
    detail: str = ""

    @property
    def homography(self) -> Matrix:
        """(3, 3) float64."""
        return np.array(self.rows, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Record of a fused stack; `NAME.json` beside the picture.

    Attributes:
        made_from: Fingerprint of everything the picture depends on.
        reference: Index of the frame that gives the picture its geometry, brightness and white balance.
        frames: All frames; the map of origins holds indices into these.
        picture: File name of the fused picture.
        origin: File name of the map: 8-bit grey PNG as large as the picture.
        size: (height, width) of both.
        bytes: Size of the picture's file.
        sha256: Of the picture's file.
        format: `sdd-fusion`.
        version: 1.
    """

    made_from: str
    reference: int
    frames: tuple[StackFrame, ...]
    picture: str
    origin: str
    size: tuple[int, int]
    bytes: int
    sha256: str
    format: str = FORMAT
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A frame to be fused.

    Attributes:
        path: Its file.
        name: Its name in the record.
        bad_pixels: (N, 2) hot and dead pixels, repaired first.
        turn: EXIF orientation by which it is turned to match the reference frame.
    """

    path: Path
    name: str
    bad_pixels: Places | None = None
    turn: int = 1


_FUSION = TypeAdapter(Fusion)


class UnfusableError(InputError):
    """The frames of a stack do not fit together."""


def result_files(stem: Path) -> tuple[Path, ...]:
    """All files that `fuse_files` may write; the picture is one of the first two."""
    return tuple(stem.with_name(stem.name + end) for end in (".dng", ".png", "_origin.png", "_check.jpg", ".json"))


def fuse_files(
    sources: Sequence[SourceFrame],
    reference: int,
    stem: Path,
    config: AlignConfig,
    made_from: str = "",
    *,
    strip: bool = False,
) -> Fusion:
    """Fuses the frames of one scene and writes `STEM.dng` or `.png`, `STEM_origin.png`, `STEM_check.jpg`, `STEM.json`.

    RAW files become a DNG of linear camera RGB, 16 bits, images a 16-bit PNG. A frame that cannot be read or registered
    is left out and listed.

    Args:
        sources: The frames, in the order of their focus.
        reference: Index of the frame that gives the geometry.
        stem: Folder and name of the results, without suffix.
        config: Section `[align]`, for the registration of the frames.
        made_from: Fingerprint to store in the record.
        strip: Whether the picture gets no metadata of the reference frame.

    Raises:
        UnfusableError: No frame can be registered to the reference frame.
        InputError: There are fewer than 2 or more than 255 frames, or the results cannot be written.
        RawError: The reference frame cannot be read.
    """
    if not 2 <= len(sources) <= MAX_FRAMES:
        raise InputError(f"a stack of {len(sources)} frames", hint=f"2 to {MAX_FRAMES} frames can be fused")
    stack, origin = _map_origins(sources, reference, config)
    picture, camera = _blend_frames(sources, stack, origin, reference)
    shares = np.bincount(origin.ravel(), minlength=len(sources)) / origin.size
    stack = [replace(frame, share=round(float(share), 6)) for frame, share in zip(stack, shares, strict=True)]
    used = sum(frame.reason is None for frame in stack)
    path = _write_picture(picture, camera, sources[reference].path, stem, used, strip)
    origin_path = stem.with_name(f"{stem.name}_origin.png")
    write_values(origin_path, _to_full_size(origin))
    check = _draw_check(camera, frames.read_camera_rgb(path), origin, len(sources))
    write_image(stem.with_name(f"{stem.name}_check.jpg"), check)
    fusion = Fusion(
        made_from=made_from,
        reference=reference,
        frames=tuple(stack),
        picture=path.name,
        origin=origin_path.name,
        size=(picture.shape[0], picture.shape[1]),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )
    write_text(stem.with_name(f"{stem.name}.json"), to_json(fusion) + "\n")
    return fusion


def _map_origins(
    sources: Sequence[SourceFrame], reference: int, config: AlignConfig
) -> tuple[list[StackFrame], NDArray[np.uint8]]:
    """All frames, registered, and (h, w) at half size the index of the sharpest frame at each pixel."""
    stack, maps, noise = _register_stack(sources, reference, config)
    used = [number for number, frame in enumerate(stack) if frame.reason is None]
    if len(used) < 2:
        reasons = "; ".join(f"{frame.path}: {frame.reason} {frame.detail}" for frame in stack if frame.reason)
        raise UnfusableError(
            f"no frame can be registered to {sources[reference].name} ({reasons})", hint="see docs/fusion.md"
        )
    winner = blending.choose_sharpest([maps[number] for number in used], noise)
    return stack, np.array(used, dtype=np.uint8)[winner]


def choose_reference(paths: Sequence[Path]) -> int:
    """Index of the frame with most fine detail among those of the most common size; the first of equals.

    Raises:
        RawError: No frame can be read.
    """
    measures: dict[int, tuple[tuple[int, int], float]] = {}
    failure: RawError | None = None
    for number, path in enumerate(paths):
        try:
            half = frames.read_half(path)
        except RawError as error:
            failure = failure or error
            continue
        measures[number] = half.size, sharpness.relative_detail(half.rgb)
    if failure is not None and not measures:
        raise failure
    (common, _), *_ = Counter(size for size, _ in measures.values()).most_common(1)
    candidates = [number for number, (size, _) in measures.items() if size == common]
    return max(candidates, key=lambda number: (measures[number][1], -number))


def read_fusion(path: Path) -> Fusion | None:
    """Reads the record of an earlier fusion; None if it or a file it names is missing or damaged."""
    try:
        fusion = _FUSION.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    picture = path.with_name(fusion.picture)
    is_ours = fusion.format == FORMAT and fusion.version == VERSION and picture.parent == path.parent
    if not is_ours or not picture.is_file() or not path.with_name(fusion.origin).is_file():
        return None
    return fusion if picture.stat().st_size == fusion.bytes and sha256_of(picture) == fusion.sha256 else None


def _register_stack(
    sources: Sequence[SourceFrame], reference: int, config: AlignConfig
) -> tuple[list[StackFrame], dict[int, blending.Sharpness], float]:
    """Registers every frame to the reference frame and measures its sharpness at half size.

    Returns:
        All frames; the sharpness of those that are used, by index; the energy of noise.
    """
    target = frames.read_half(sources[reference].path, sources[reference].bad_pixels)
    size = (target.rgb.shape[0], target.rgb.shape[1])
    stack = [StackFrame(source.name) for source in sources]
    maps = {reference: _frame_sharpness(target.rgb, stack[reference], size)}
    noise = blending.noise_energy(target.rgb)
    for number, source in enumerate(sources):
        if number != reference:
            stack[number], half = _register_frame(source, target, config)
            if half is not None:
                maps[number] = _frame_sharpness(half.rgb, stack[number], size)
                noise = min(noise, blending.noise_energy(half.rgb))
    return stack, maps, noise


def _register_frame(source: SourceFrame, target: HalfFrame, config: AlignConfig) -> tuple[StackFrame, HalfFrame | None]:
    """Registers a frame to the reference frame; None instead of its pixels if it is left out."""
    name = source.name
    try:
        half = frames.read_half(source.path, source.bad_pixels, source.turn)
        if half.size != target.size:
            sizes = " and ".join(f"{width}x{height}" for height, width in (half.size, target.size))
            return StackFrame(name, reason=Reason.SIZE_MISMATCH, detail=f"{sizes} px"), None
        if half.to_srgb != target.to_srgb:
            return StackFrame(name, reason=Reason.UNSUPPORTED, detail="not of the reference frame's camera"), None
        # No radial term: its effect lies far below the blur of a stack.
        alignment = register(half.rgb, target.rgb, config.model_copy(update={"radial": False}))
    except RawError as error:
        return StackFrame(name, reason=Reason.UNREADABLE, detail=error.what.replace(str(source.path), name)), None
    except ValueError as error:
        return StackFrame(name, reason=Reason.NOT_ALIGNED, detail=str(error)), None
    # Deep scenes have parallax: every region of the picture still comes from one frame.
    if alignment.failure not in (None, Reason.PARALLAX):
        return StackFrame(name, reason=alignment.failure, detail=alignment.detail), None
    (a, b, c), (d, e, f), (g, h, i) = geometry.rescale_homography(alignment.homography, 2.0).tolist()
    rows: tuple[Row, Row, Row] = ((a, b, c), (d, e, f), (g, h, i))
    return StackFrame(name, rows, alignment.gain, 2 * (alignment.error_px or 0.0)), half


def _frame_sharpness(rgb: Image, frame: StackFrame, size: tuple[int, int]) -> blending.Sharpness:
    half = geometry.rescale_homography(frame.homography, 0.5)
    is_identity = np.array_equal(half, np.eye(3))
    covered = np.ones(size, dtype=np.bool_) if is_identity else resampling.valid_mask(half, size, size)
    warped = rgb if is_identity else resampling.warp(rgb, half, size)
    measured = blending.measure_sharpness(np.maximum(warped * np.float32(frame.gain), np.float32(0)), covered)
    return replace(measured, energy=np.minimum(measured.energy, np.float32(_MAX_FLOAT16)).astype(np.float16))


def _blend_frames(
    sources: Sequence[SourceFrame], stack: Sequence[StackFrame], origin: NDArray[np.uint8], reference: int
) -> tuple[Image, CameraFrame]:
    """Blends the frames along the map of origins: the picture in linear camera RGB, and the reference frame."""
    size = (2 * origin.shape[0], 2 * origin.shape[1])
    blend = blending.empty_blend(size)
    whole = _to_full_size(origin)
    target = frames.read_camera_rgb(sources[reference].path, sources[reference].bad_pixels)
    for number, (source, frame) in enumerate(zip(sources, stack, strict=True)):
        mask = whole == number
        if not mask.any():
            continue
        image = target.rgb
        if number != reference:
            image = resampling.warp(
                frames.read_camera_rgb(source.path, source.bad_pixels, source.turn).rgb, frame.homography, size
            )
            image *= np.float32(frame.gain)
        blending.add_frame(blend, image, mask.astype(np.float32))
    return np.minimum(blending.collapse(blend), np.float32(1)), target


def _write_picture(picture: Image, camera: CameraFrame, like: Path, stem: Path, count: int, strip: bool) -> Path:
    if like.suffix.lower() in IMAGE_SUFFIXES:
        path = stem.with_name(f"{stem.name}.png")
        write_image(path, np.asarray(encode(picture, Encoding.SRGB16), dtype=np.uint16), like=like, strip=strip)
        return path
    meta = read_meta(like)
    exposure = meta.exposure
    tags = dng.RawTags(
        make=meta.make or "unknown",
        model=meta.model or "unknown",
        black_level=0,
        white_level=_WHITE,
        neutral=tuple(1.0 / value for value in camera.white_balance),
        colour_matrix=dng.colour_matrix(camera.to_srgb, camera.white_balance),
        lens=meta.lens,
        f_number=exposure.f_number,
        shutter_s=exposure.shutter_s,
        iso=None if exposure.iso is None else round(exposure.iso),
        focal_mm=exposure.focal_mm,
        taken_at=None if meta.taken_at is None or strip else datetime.fromisoformat(meta.taken_at),
        description=f"all-in-focus fusion of {count} frames",
    )
    path = stem.with_name(f"{stem.name}.dng")
    pixels = np.rint(picture * np.float32(_WHITE)).astype(np.uint16)
    size = (pixels.shape[0], pixels.shape[1])
    known = exif_block.build_block(meta)
    copied = embeddable(read_file_metadata(like), ".dng", size, is_srgb=False, fallback=known)
    write_bytes(path, dng.encode(pixels, tags, EmbeddedMetadata() if strip else copied))
    return path


def _to_full_size(half: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return half.repeat(2, axis=0).repeat(2, axis=1)


def _draw_check(reference: CameraFrame, fused: CameraFrame, origin: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Draws the reference frame, the fused picture and the map of origins in colours side by side."""
    height, width = origin.shape
    size = (min(_CHECK_WIDTH_PX, width), round(height * min(1.0, _CHECK_WIDTH_PX / width)))
    panels = [_preview(frame, size) for frame in (reference, fused)]
    grey = (origin.astype(np.float32) * (255.0 / max(count - 1, 1))).astype(np.uint8)
    coloured = cv2.applyColorMap(grey, cv2.COLORMAP_TURBO)[..., ::-1]
    panels.append(np.asarray(cv2.resize(coloured, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8))
    gap = np.full((size[1], _CHECK_GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)


def _preview(frame: CameraFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Preview of a frame, `size` = (width, height) pixels large."""
    small = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
    return preview(replace(frame, rgb=np.asarray(small, dtype=np.float32)))
