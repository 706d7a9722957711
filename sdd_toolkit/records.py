"""The records that packages exchange: frozen dataclasses of facts and paths, which JSON can hold; never arrays.

Conventions, stated once for the whole toolkit:

* Arrays are (H, W[, C]) in NumPy and (B, C, H, W) in torch; channel order is RGB; sizes are (height, width).
* Points are (x, y) with the origin at the *centre* of the first pixel, so a frame spans -0.5 … W - 0.5.
* Linear light is float32 with black = 0 and white (sensor saturation) = 1.
* A homography maps blurred (x, y, 1) to sharp, in full-size developed pixels.
* A flow field `u[a→b]` lives on the grid of `a`: `b(x + u(x))` looks like `a(x)`; its unit is full-size pixels.
* A bare number carries its unit in its name: `_px`, `_s`, `_mm`, `_m`, `_dn`, `_ev`, `_deg`.
* Missing is None, never 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray


class Reason(StrEnum):
    """Reason why a file or a pair is not in the data set. Closed: nothing is dropped without one of these."""

    # files (ingest)
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"
    DUPLICATE = "duplicate"
    NO_PARTNER = "no_partner"
    EXPOSURE_UNMATCHED = "exposure_unmatched"
    # pairs (align)
    SIZE_MISMATCH = "size_mismatch"
    NO_TEXTURE = "no_texture"
    DIFFERENT_SCENE = "different_scene"
    PARALLAX = "parallax"
    NOT_ALIGNED = "not_aligned"
    # pairs (filter)
    BLACK_FRAME = "black_frame"
    CLIPPED = "clipped"
    EXPOSURE_MISMATCH = "exposure_mismatch"
    LOW_TEXTURE = "low_texture"
    BOTH_BLURRED = "both_blurred"
    NOT_SHARPER = "not_sharper"
    MISALIGNED = "misaligned"
    MOVING_OBJECT = "moving_object"
    TOO_SMALL = "too_small"
    # any stage
    CHANGED = "changed"
    WORKER_DIED = "worker_died"
    TIMED_OUT = "timed_out"


REASON_TEXT: dict[Reason, str] = {
    Reason.UNSUPPORTED: "not a RAW or image file this toolkit reads",
    Reason.UNREADABLE: "the file cannot be decoded",
    Reason.DUPLICATE: "the same exposure as another file: equal bytes, or another version of it",
    Reason.NO_PARTNER: "no other frame of the scene to pair it with",
    Reason.EXPOSURE_UNMATCHED: "the exposures differ by more than a linear gain can bridge",
    Reason.SIZE_MISMATCH: "the two frames differ in size",
    Reason.NO_TEXTURE: "too little texture to align by",
    Reason.DIFFERENT_SCENE: "the two frames do not show the same scene",
    Reason.PARALLAX: "no single plane-to-plane mapping explains the motion",
    Reason.NOT_ALIGNED: "the registration did not converge",
    Reason.BLACK_FRAME: "a frame is black",
    Reason.CLIPPED: "too many saturated pixels",
    Reason.EXPOSURE_MISMATCH: "the measured brightness of the frames differs too much",
    Reason.LOW_TEXTURE: "too few textured tiles to learn from",
    Reason.BOTH_BLURRED: "the frame that should be sharp is blurred too",
    Reason.NOT_SHARPER: "the sharp frame is hardly sharper than the blurred one",
    Reason.MISALIGNED: "the residual displacement after alignment is too large",
    Reason.MOVING_OBJECT: "part of the scene moved between the shots",
    Reason.TOO_SMALL: "the overlap of the frames is smaller than one patch",
    Reason.CHANGED: "the file is not the one that was ingested",
    Reason.WORKER_DIED: "the worker process died on this pair (out of memory?)",
    Reason.TIMED_OUT: "the worker took too long on this pair and was killed",
}


def value_counts(values: Iterable[str | None]) -> dict[str, int]:
    """Number of occurrences of each value, most frequent first, equally frequent ones by name; None is not counted.

    >>> value_counts(["low_texture", None, "clipped", "low_texture", "changed"])
    {'low_texture': 2, 'changed': 1, 'clipped': 1}
    """
    counts = Counter(str(value) for value in values if value is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class PairKind(StrEnum):
    """The setting that differs between the blurred and the sharp shot."""

    APERTURE = "aperture"
    FOCUS = "focus"
    SEQUENCE = "sequence"
    CSV = "csv"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure settings of a frame; None where the file does not say.

    Attributes:
        focus_m: Distance the lens was focused at; `math.inf` at infinity, which JSON spells "Infinity".
    """

    iso: float | None = None
    shutter_s: float | None = None
    f_number: float | None = None
    focal_mm: float | None = None
    focus_m: float | None = None


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """Capture metadata of a file.

    Attributes:
        taken_at: ISO 8601 local time with sub-seconds, e.g. `2026-05-01T10:00:00.250000`.
        orientation: EXIF orientation 1 … 8; 1 where the file does not say.
        size: (height, width) of the developed frame before orientation; None if unknown.
        utc_offset: How far `taken_at` is ahead of UTC, e.g. `+02:00`; None where the file does not say.
        serial: Serial number of the body; distinguishes two bodies of one model.
        colour: What is done with the colours of an image that is not plain sRGB, e.g. `converted from Display P3 to
            sRGB primaries`; None for sRGB, images without a profile and RAW.
    """

    make: str | None = None
    model: str | None = None
    lens: str | None = None
    taken_at: str | None = None
    orientation: int = 1
    size: tuple[int, int] | None = None
    exposure: Exposure = field(default_factory=Exposure)
    utc_offset: str | None = None
    serial: str | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class FileProvenance:
    """The metadata of a file that tell whether it is a camera's original or made of one.

    Attributes:
        software: The program or firmware that wrote it.
        raw_name: Name of the RAW file that a DNG was converted from.
        has_shot_time: Whether `FrameMeta.taken_at` is the time of the shot; else it is that of the last change.
        is_demosaiced: Whether it is a DNG of demosaiced pixels.
    """

    software: str | None = None
    raw_name: str | None = None
    has_shot_time: bool = True
    is_demosaiced: bool = False


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file by its POSIX path relative to the manifest's root, with its size and hash."""

    path: str
    bytes: int
    sha256: str


Row = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Registration of the blurred frame to the sharp one. All lengths are full-size pixels.

    Attributes:
        rows: The 3x3 homography, blurred to sharp, row by row, normalised to rows[2][2] = 1.
        model: The global model that was selected: `identity`, `similarity`, `affine` or `homography`.
        gain: Linear gain that brings the blurred frame to the sharp frame's brightness, at the frame centre.
        size: (height, width) both frames share.
        box: (left, top, right, bottom), half open, on the sharp grid: where the warped blurred frame is valid.
        shift_px: (dx, dy) of the frame centre.
        zoom: Magnification blurred to sharp; 1 = none (focus breathing shows here).
        rotation_deg: Counter-clockwise positive in (x right, y down) axes as `atan2(h10, h00)`.
        perspective_px: Largest corner deviation of the homography from its best similarity.
        before_px: Median displacement of textured pixels before alignment.
        before_p95_px: Its 95th percentile.
        residual_px: Median residual flow of textured pixels after alignment.
        residual_p95_px: Its 95th percentile.
        coc_px: Median radius of the disc that matches the sharp frame to the blurred one.
        coc_p95_px: Its 95th percentile over textured tiles.
        ncc: Normalised cross-correlation of the blur-matched, aligned frames.
        unexplained_fraction: Share of textured tiles which no disc blur and no small shift explains.
        texture_fraction: Share of tiles with texture to align by.
        error_px: Estimated error at the corners, root mean square; two thirds of the errors are within it. None if the
            pair could not be aligned.
        flow_file: npz beside the manifest with the quarter-size residual flow; None if not written.
        failure: Reason why the pair cannot be aligned; None if it can.
        detail: The measured number behind the failure.
        radial: k of the radial term: a pixel y of the sharp frame shows what the blurred frame holds at the point
            q = H⁻¹y moved away from the frame centre by the factor 1 + k ρ², with ρ the distance of q from the centre
            in half diagonals. 0 unless `[align] radial` is on and it improves the fit.
        offset: Linear light added after the gain (flare, black level).
        colour_gain: Gain of R, G, B relative to `gain`; Bayer-weighted mean 1.
        vignetting: (a, b) of the gain's change over the frame, 1 + a ρ² + b ρ⁴ on the sharp grid.
    """

    rows: tuple[Row, Row, Row]
    model: str
    gain: float
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    shift_px: tuple[float, float]
    zoom: float
    rotation_deg: float
    perspective_px: float
    before_px: float
    before_p95_px: float
    residual_px: float
    residual_p95_px: float
    coc_px: float
    coc_p95_px: float
    ncc: float
    unexplained_fraction: float
    texture_fraction: float
    error_px: float | None = None
    flow_file: str | None = None
    failure: Reason | None = None
    detail: str = ""
    radial: float = 0.0
    offset: float = 0.0
    colour_gain: Row = (1.0, 1.0, 1.0)
    vignetting: tuple[float, float] = (0.0, 0.0)

    @property
    def homography(self) -> NDArray[np.float64]:
        """The 3x3 matrix, blurred (x, y, 1) to sharp, float64."""
        import numpy as np

        return np.array(self.rows, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Quality:
    """Measured facts about a pair; thresholds live in `FilterConfig`, not here.

    Attributes:
        sharpness_gain: Median over textured tiles of fine-detail energy, sharp over blurred; 1 = no gain.
        sharper_fraction: Share of textured tiles where the sharp frame holds clearly more detail.
        softer_fraction: Share of textured tiles where the sharp frame holds clearly less detail.
        sharp_acuity: Fine-to-medium detail ratio of the sharp frame's crispest textured tiles, noise removed;
            low = blurred everywhere.
        blur_acuity: The same of the blurred frame.
        exposure_ev: log2 of the measured linear gain between the frames.
        clipped_fraction: Share of saturated pixels, the worse frame.
        blur_level: Linear level of the blurred frame's bright parts (99.5th percentile), 0 … 1.
        sharp_level: The same of the sharp frame.
        texture_fraction: Share of tiles with texture above the noise, the sharp frame.
    """

    sharpness_gain: float
    sharper_fraction: float
    softer_fraction: float
    sharp_acuity: float
    blur_acuity: float
    exposure_ev: float
    clipped_fraction: float
    blur_level: float
    sharp_level: float
    texture_fraction: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a pair is kept; if not, the first rule that failed and the number that failed it."""

    keep: bool
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """Provenance of one stage: its version and the fingerprints of its configuration and inputs. No clock times."""

    stage: str
    version: str
    config: str
    inputs: str


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One line of a manifest: two frames of one scene and everything measured on them.

    Attributes:
        measured: Fingerprint of the inputs of `quality` (`manifest.measurement_fingerprint`); None in records of
            earlier versions and where nothing was measured.
        notes: Remarks on the pair that do not reject it, one sentence each (differing orientation tags, a converted
            colour profile); each stage appends its own.
        blur_turn: EXIF orientation by which the displayed blurred frame is turned before anything else, where the two
            frames of one body have different tags (`sdd_toolkit.metadata.orientation`); 1 is no turn.
    """

    id: str
    scene: str
    kind: PairKind
    blur: FileRef
    sharp: FileRef
    blur_meta: FrameMeta
    sharp_meta: FrameMeta
    alignment: Alignment | None = None
    quality: Quality | None = None
    verdict: Verdict | None = None
    history: tuple[Step, ...] = ()
    measured: str | None = None
    notes: tuple[str, ...] = ()
    blur_turn: int = 1


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """A file that is in no pair, and the reason. `path` is relative to the manifest's root."""

    path: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard as the index lists it."""

    name: str
    split: str
    pairs: tuple[str, ...]
    patches: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a stage, printed by its command. `copied` counts the pairs of `done` with pixels of an earlier run.

    `side_files` counts files among the inputs that the toolkit wrote itself; they are not in `total`.
    """

    stage: str
    total: int
    done: int
    skipped: int
    rejected: dict[str, int]
    seconds: float
    outputs: tuple[str, ...] = ()
    copied: int = 0
    side_files: int = 0
