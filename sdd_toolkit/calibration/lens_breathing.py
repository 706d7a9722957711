"""Fits the focus breathing of the lenses of a data set, by lens and focal length; reads and writes the models."""

from __future__ import annotations

import json
import math
from codecs import BOM_UTF8
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit.calibration import breathing_model
from sdd_toolkit.calibration.breathing_model import BreathingModel, Observation, ZoomPrior
from sdd_toolkit.errors import InputError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import value_counts
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sdd_toolkit.records import FrameMeta, PairRecord

FORMAT = "sdd-breathing"
VERSION = 1
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LensBreathing:
    """The model of one lens at one focal length, as stored in a file.

    Attributes:
        lens: Its name in EXIF; the model of the camera if the lens has no name.
        focal_mm: Focal length, three significant digits.
    """

    lens: str
    focal_mm: float
    model: BreathingModel


@dataclass(frozen=True, slots=True)
class LensPairs:
    """The pairs of one lens at one focal length and the model fitted to them.

    Attributes:
        lens: `unknown` if EXIF names neither lens nor camera.
        focal_mm: None if it is not in EXIF.
        observations: The pairs used.
        left_out: Number of the other pairs, by the reason why they were left out.
        model: None if these pairs do not determine one.
        refusal: The reason why they do not; empty if there is a model.
    """

    lens: str
    focal_mm: float | None
    observations: tuple[Observation, ...]
    left_out: dict[str, int]
    model: BreathingModel | None
    refusal: str


@dataclass(frozen=True, slots=True)
class _File:
    format: str
    version: int
    lenses: tuple[LensBreathing, ...]


_FILE = TypeAdapter(_File)


def fit_lenses_of_manifest(source: Path, out: Path, *, overwrite: bool = False) -> tuple[LensPairs, ...]:
    """Fits the lenses of an aligned manifest and writes the models to the file `out`.

    Raises:
        ManifestError: `source` is not a manifest.
        InputError: No lens of it can be fitted, or `out` exists and may not be replaced; nothing is written.
    """
    check_targets([out], [source], overwrite=overwrite)
    fitted = fit_lenses(manifest.read_manifest(source).records)
    models = models_of(fitted)
    if not models:
        why = "; ".join(f"{entry.lens}: {entry.refusal}{_counted(entry.left_out)}" for entry in fitted) or "no pairs"
        raise InputError(
            f"no lens of {source} can be fitted ({why})",
            hint="give the aligned or filtered manifest of focus pairs whose EXIF holds SubjectDistance",
        )
    write_models(out, models)
    return fitted


def models_of(fitted: Iterable[LensPairs]) -> tuple[LensBreathing, ...]:
    """The models of the lenses that could be fitted."""
    return tuple(
        LensBreathing(entry.lens, entry.focal_mm, entry.model)
        for entry in fitted
        if entry.model is not None and entry.focal_mm is not None
    )


def fit_lenses(records: Iterable[PairRecord]) -> tuple[LensPairs, ...]:
    """Fits a model for every lens and focal length of a data set, sorted by name, or gives the reason for none."""
    groups: dict[tuple[str, float], tuple[list[Observation], Counter[str]]] = {}
    for record in records:
        used, left_out = groups.setdefault(_lens_of(record), ([], Counter()))
        reason = _why_left_out(record)
        if reason:
            left_out[reason] += 1
        else:
            used.append(observation_of(record))
    return tuple(_fit_lens(lens, focal_mm, *groups[lens, focal_mm]) for lens, focal_mm in sorted(groups))


def observation_of(record: PairRecord) -> Observation:
    """The observation of its lens that an aligned pair provides.

    The deviation of the zoom is the registration's estimated corner error over half a diagonal, plus the effect of a
    rotation of the camera: an angle θ magnifies by about θ², and θ is at most the shift over the frame's longer side.
    """
    alignment, (blur_m, sharp_m) = record.alignment, _focus_of(record)
    if alignment is None or blur_m is None or sharp_m is None:
        raise ValueError(f"the pair {record.id} is not aligned or has no focus distances")
    measured = (alignment.error_px or 0.0) / (math.hypot(*alignment.size) / 2.0)
    turned = (math.hypot(*alignment.shift_px) / max(alignment.size)) ** 2
    return Observation(blur_m, sharp_m, alignment.zoom, math.hypot(measured, turned))


def zoom_prior_of(record: PairRecord, lenses: Sequence[LensBreathing]) -> ZoomPrior | None:
    """The expected zoom of a pair; None if its lens or its focus distances are unknown."""
    blur_m, sharp_m = _focus_of(record)
    if blur_m is None or sharp_m is None or _mixed(record):
        return None
    name, focal_mm = _lens_of(record)
    known = (entry for entry in lenses if (entry.lens, entry.focal_mm) == (name, focal_mm))
    entry = next(known, None)
    return None if entry is None else breathing_model.predict_zoom(entry.model, blur_m, sharp_m)


def write_models(path: Path, lenses: Sequence[LensBreathing]) -> None:
    """Writes the models as JSON."""
    content = {"format": FORMAT, "version": VERSION, "lenses": [asdict(entry) for entry in lenses]}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_models(path: Path) -> tuple[LensBreathing, ...]:
    """Reads the models that `write_models` wrote.

    Raises:
        InputError: Missing, no such file, another version, or the same lens twice.
    """
    hint = "give a file that `sdd breathing` wrote"
    try:
        content = _FILE.validate_json(path.read_bytes().removeprefix(BOM_UTF8))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {f'{where}: ' if where else ''}{first['msg']}", hint=hint) from error
    if (content.format, content.version) != (FORMAT, VERSION):
        raise InputError(f"{path} is {content.format} {content.version}, not {FORMAT} {VERSION}", hint=hint)
    names = Counter((entry.lens, entry.focal_mm) for entry in content.lenses)
    for (name, focal_mm), times in names.items():
        if times > 1:
            raise InputError(f"{path} holds {name} at {focal_mm:g} mm {times} times", hint="keep one of them")
    return content.lenses


def _counted(left_out: dict[str, int]) -> str:
    return "".join(f", {count} {reason}" for reason, count in left_out.items())


def _fit_lens(lens: str, focal_mm: float, used: list[Observation], left_out: Counter[str]) -> LensPairs:
    model, refusal = None, ""
    try:
        model = breathing_model.fit_breathing(used)
    except InputError as error:
        refusal = error.what
    return LensPairs(lens, focal_mm or None, tuple(used), value_counts(left_out.elements()), model, refusal)


def _why_left_out(record: PairRecord) -> str:
    alignment, (blur_m, sharp_m) = record.alignment, _focus_of(record)
    if alignment is None or alignment.failure is not None:
        return "not aligned"
    if record.verdict is not None and not record.verdict.keep:
        return "rejected"
    if _mixed(record):
        return "frames differ in lens or focal length"
    if blur_m is None or sharp_m is None:
        return "focus distance unknown"
    if abs(breathing_model.dioptres(blur_m) - breathing_model.dioptres(sharp_m)) < breathing_model.MIN_FOCUS_CHANGE_DPT:
        return "focus not moved"
    return ""


def _focus_of(record: PairRecord) -> tuple[float | None, float | None]:
    return record.blur_meta.exposure.focus_m, record.sharp_meta.exposure.focus_m


def _mixed(record: PairRecord) -> bool:
    """Whether the frames were not taken by one known lens at one known focal length."""
    lens = _lens(record.sharp_meta)
    return lens != _lens(record.blur_meta) or lens[0] == UNKNOWN or not lens[1]


def _lens_of(record: PairRecord) -> tuple[str, float]:
    return _lens(record.sharp_meta)


def _lens(meta: FrameMeta) -> tuple[str, float]:
    """Name and focal length to three digits, as EXIF is no finer for zooms; 0 for unknown, so that it sorts."""
    focal_mm = meta.exposure.focal_mm
    return meta.lens or meta.model or UNKNOWN, float(f"{focal_mm:.3g}") if focal_mm else 0.0
