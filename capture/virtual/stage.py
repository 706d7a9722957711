"""Shooting a series: scenes in, RAW pairs with their truth out, resuming where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from capture.virtual import sensor
from capture.virtual.faults import Defect
from capture.virtual.picture import Picture, metric, relative
from capture.virtual.shoot import RenderedPair, render_pair
from sdd_toolkit import __version__, dng, files
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.executor import run_tasks
from sdd_toolkit.progress import silent
from sdd_toolkit.types import PairKind, Reason, Report

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig
    from capture.virtual.plan import Shot
    from sdd_toolkit.progress import Track

SERIES_FILE = "simulate.json"
SCENE_FILES = ("blur.dng", "sharp.dng", "truth.npz")
_FIRST_SHOT = datetime(2026, 1, 1, 10, 0, 0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A photograph and its depth map on disk."""

    image: Path
    depth: Path


@dataclass(frozen=True, slots=True)
class Task:
    """One scene to shoot."""

    folder: Path
    config: SimulateConfig
    kind: PairKind
    seed: int
    index: int
    defect: Defect | None
    source: Source | None


def run(
    out: Path,
    config: SimulateConfig,
    *,
    scenes: int = 12,
    kind: str = PairKind.FOCUS,
    seed: int = 0,
    defects: bool = False,
    source: Source | None = None,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Shoots `scenes` pairs into `out`/scene-0001 …, and with `defects` one more for each planted fault.

    Every scene has its own stream of chance from (seed, number), so neither the number of workers nor that of
    scenes changes a byte of it. Scenes that are complete are kept.

    Args:
        out: Folder of the series; made if missing.
        config: The camera.
        scenes: Number of good pairs.
        kind: `focus` or `aperture`.
        seed: Seed of the series, 0 or more.
        defects: Adds one scene for each `Defect`.
        source: A photograph with depth instead of dead leaves.
        executor: See `sdd_toolkit.executor`.
        overwrite: Shoots everything again, whatever `out` holds.
        track: Progress display.

    Raises:
        InputError: A value is out of range, a file cannot be used, or `out` holds another series.
    """
    started = time.monotonic()
    if scenes < 0 or seed < 0:
        raise InputError(f"scenes = {scenes}, seed = {seed}: must not be negative", hint="use 0 or more")
    if source is not None:
        load(source, config)
    faults: list[Defect | None] = [*[None] * scenes, *(Defect if defects else ())]
    tasks = [
        Task(out / f"scene-{index:04d}", config, PairKind(kind), seed, index, fault, source)
        for index, fault in enumerate(faults, 1)
    ]
    _claim(out, tasks[0] if tasks else None, overwrite=overwrite)
    waiting = [task for task in tasks if overwrite or not _finished(task)]
    died = 0
    with track("simulate", len(waiting)) as advance:
        for outcome in run_tasks(shoot, waiting, executor):
            died += outcome.result is None
            if outcome.result:
                _log.warning("%s: %s", outcome.task.folder.name, outcome.result)
            advance(note=outcome.task.folder.name)
    return Report(
        stage="simulate",
        total=len(tasks),
        done=len(waiting) - died,
        skipped=len(tasks) - len(waiting),
        rejected={Reason.WORKER_DIED.value: died} if died else {},
        seconds=time.monotonic() - started,
        outputs=(str(out),),
    )


def shoot(task: Task) -> str:
    """Shoots one scene and writes its three files, the truth last; returns what is wrong with it, or nothing."""
    picture = None if task.source is None else load(task.source, task.config)
    pair = render_pair(task.config, task.kind, task.seed, task.index, task.defect, picture)
    blur_at, sharp_at = _shot_times(task)
    blur, sharp = (
        _raw_tags(task.config, pair, pair.plan.blur, blur_at),
        _raw_tags(task.config, pair, pair.plan.sharp, sharp_at),
    )
    files.write_bytes(task.folder / "blur.dng", dng.encode(pair.blur_mosaic, blur))
    files.write_bytes(task.folder / "sharp.dng", dng.encode(pair.sharp_mosaic, sharp))
    files.write_bytes(task.folder / "truth.npz", pair.truth.npz(task.defect))
    return _too_deep(task, pair)


def load(source: Source, config: SimulateConfig) -> Picture:
    """Reads a photograph and its depth map.

    The map is a `.npy` of metres (infinity allowed), or an 8/16-bit grey PNG or TIFF linear in inverse depth, where
    0 is `far_m` and the largest number `near_m` of the configuration, or whatever suits the pair if not given.

    Raises:
        RawError: A file cannot be read.
        InputError: The map does not fit the photograph or holds impossible distances.
    """
    from sdd_toolkit.develop import srgb_decode
    from sdd_toolkit.images import read_image

    image = read_image(source.image)
    linear = srgb_decode(image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max))
    if source.depth.suffix.lower() == ".npy":
        distance = _distances(source.depth, config)
        _same_size(source, linear, distance)
        return metric(linear, distance)
    values = read_image(source.depth)[..., 0]
    _same_size(source, linear, values)
    return relative(linear, values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max), config)


def _distances(path: Path, config: SimulateConfig) -> NDArray[np.float64]:
    try:
        distance = np.asarray(np.load(path), dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise RawError(
            f"cannot read the depth map {path}: {error}", hint="save it with numpy.save as numbers"
        ) from error
    nearest = 2 * config.focal_mm / 1000.0
    if distance.ndim != 2 or distance.size == 0:
        raise InputError(f"{path} has shape {distance.shape}", hint="a depth map is (height, width)")
    if not np.all(distance >= nearest):
        worst = float(np.nanmin(distance)) if not np.all(np.isnan(distance)) else float("nan")
        raise InputError(
            f"{path} holds {worst:g} m or a NaN", hint=f"depths are metres, at least {nearest:g} (two focal lengths)"
        )
    return distance


def _same_size(source: Source, image: NDArray[np.float32], depth: NDArray[np.float64] | NDArray[np.generic]) -> None:
    if image.shape[:2] != depth.shape:
        raise InputError(
            f"{source.depth} is {depth.shape[1]}x{depth.shape[0]}, {source.image} is {image.shape[1]}x{image.shape[0]}",
            hint="the depth map must have the photograph's size",
        )


def _claim(out: Path, task: Task | None, *, overwrite: bool) -> None:
    """Marks `out` as holding this series, or refuses if it holds another one."""
    if task is None:
        return
    source = task.source
    series = {
        "version": __version__,
        "kind": task.kind.value,
        "seed": task.seed,
        "photograph": None if source is None else [files.sha256_of(source.image), files.sha256_of(source.depth)],
        "config": task.config.model_dump(mode="json"),
    }
    series["fingerprint"] = hashlib.sha256(json.dumps(series, sort_keys=True).encode()).hexdigest()[:16]
    path = out / SERIES_FILE
    if not overwrite and (path.exists() or any(out.glob("scene-*"))) and _fingerprint(path) != series["fingerprint"]:
        raise InputError(
            f"{out} holds scenes of another series, seed or configuration",
            hint="choose another --out, or --overwrite to shoot them again",
        )
    files.write_text(path, json.dumps(series, indent=1) + "\n")


def _fingerprint(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finished(task: Task) -> bool:
    """Whether the scene is complete and has the fault this run wants there."""
    if not all((task.folder / name).is_file() for name in SCENE_FILES):
        return False
    try:
        with np.load(task.folder / "truth.npz") as held:
            fault = str(held["defect"]) if "defect" in held.files else None
    except (OSError, ValueError, EOFError, BadZipFile):
        return False
    return fault == task.defect


def _too_deep(task: Task, pair: RenderedPair) -> str:
    blurred, sharp = float(pair.truth.coc_px.max()), pair.sharp_coc_px
    if task.defect is Defect.BOTH_BLURRED or (
        blurred <= 1.05 * task.config.max_coc_px and sharp <= 1.05 * task.config.sharp_coc_px
    ):
        return ""
    return f"the scene is deeper than the camera's limits: blurred up to {blurred:.1f} px, sharp up to {sharp:.1f} px"


def _shot_times(task: Task) -> tuple[datetime, datetime]:
    """When the two shots were taken: a minute from scene to scene, some seconds within one."""
    first, gap = np.random.default_rng([task.seed, task.index, 4]).integers((0, 2000), (1000, 5000)).tolist()
    blur_at = _FIRST_SHOT + timedelta(minutes=task.index, milliseconds=first)
    return blur_at, blur_at + timedelta(milliseconds=gap)


def _raw_tags(config: SimulateConfig, pair: RenderedPair, shot: Shot, taken_at: datetime) -> dng.RawTags:
    # Both shots are metered alike: the time goes with the square of the f-number.
    first_s = 1.0 / max(1, round(250 * (2.8 / pair.plan.blur.f_number) ** 2 * config.iso / 200))
    return dng.RawTags(
        make="SDD",
        model="Virtual Camera",
        lens=f"SDD {config.focal_mm:g}mm F{config.f_number_min:g}",
        f_number=shot.f_number,
        shutter_s=first_s * (shot.f_number / pair.plan.blur.f_number) ** 2,
        iso=config.iso,
        focal_mm=config.focal_mm,
        focal_35mm=max(1, round(config.focal_mm * 36 / (config.width * config.pitch_mm))),
        focus_m=shot.focus_m,
        pitch_mm=config.pitch_mm,
        taken_at=taken_at,
        cfa=config.cfa,
        black_level=config.black_level,
        white_level=config.white_level,
        neutral=sensor.NEUTRAL,
        colour_matrix=sensor.COLOUR_MATRIX,
        noise_profile=sensor.noise_profile(config),
    )
