"""Shooting a series: scenes in, RAW pairs with their truth out, resuming where an earlier run stopped."""

from __future__ import annotations

import json
import logging
import time
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from capture.virtual import sensor
from capture.virtual.defects import Defect
from capture.virtual.render_pair import RenderedPair, render_pair
from capture.virtual.sources import PhotographSource, load_picture
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.raw import dng
from sdd_toolkit.records import PairKind, Reason, Report
from sdd_toolkit.storage import files
from sdd_toolkit.storage.fingerprint import fingerprint
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from capture.virtual.config import SimulateConfig
    from capture.virtual.plan import VirtualShot
    from sdd_toolkit.execution.progress import Track

SERIES_FILE = "simulate.json"
DEFAULT_SCENES = 12
SCENE_FILES = ("blur.dng", "sharp.dng", "truth.npz")
_FIRST_SHOT = datetime(2026, 1, 1, 10, 0, 0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SceneTask:
    """One scene to shoot."""

    folder: Path
    config: SimulateConfig
    kind: PairKind
    seed: int
    index: int
    defect: Defect | None
    source: PhotographSource | None


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """Whether a scene was shot, and what is odd about it."""

    shot: bool
    note: str


def simulate_pairs(
    out: Path,
    config: SimulateConfig,
    *,
    scenes: int | None = None,
    kind: str = PairKind.FOCUS,
    seed: int = 0,
    defects: bool = False,
    photographs: Sequence[PhotographSource] = (),
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
        scenes: Number of good pairs; None: one of each photograph, or 12.
        kind: `focus` or `aperture`.
        seed: Seed of the series, 0 or more.
        defects: Adds one scene for each `Defect`.
        photographs: What to shoot instead of dead leaves, one a scene, from the first again after the last.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Shoots everything again, whatever `out` holds.
        track: Progress display.

    Raises:
        InputError: A value is out of range, a file cannot be used, or `out` holds another series.
    """
    started = time.monotonic()
    wanted = (len(photographs) or DEFAULT_SCENES) if scenes is None else scenes
    if wanted < 0 or seed < 0:
        raise InputError(f"scenes = {wanted}, seed = {seed}: must not be negative", hint="use 0 or more")
    if len(photographs) == 1:
        load_picture(photographs[0], config, _depth_rng(seed, 1))
    faults: list[Defect | None] = [*[None] * wanted, *(Defect if defects else ())]
    tasks = [
        SceneTask(
            out / f"scene-{index:04d}", config, PairKind(kind), seed, index, fault, _photograph_for(photographs, index)
        )
        for index, fault in enumerate(faults, 1)
    ]
    _register_series(out, tasks[0] if tasks else None, photographs, overwrite=overwrite)
    waiting = [task for task in tasks if overwrite or not _is_finished(task)]
    died = unreadable = 0
    with track("simulate", len(waiting)) as advance:
        for outcome in run_tasks(shoot_scene, waiting, executor):
            died += outcome.result is None
            unreadable += outcome.result is not None and not outcome.result.shot
            if outcome.result is not None and outcome.result.note:
                _log.warning("%s: %s", outcome.task.folder.name, outcome.result.note)
            advance(note=outcome.task.folder.name)
    rejected = {Reason.WORKER_DIED: died, Reason.UNREADABLE: unreadable}
    return Report(
        stage="simulate",
        total=len(tasks),
        done=len(waiting) - died - unreadable,
        skipped=len(tasks) - len(waiting),
        rejected={reason.value: count for reason, count in rejected.items() if count},
        seconds=time.monotonic() - started,
        outputs=(str(out),),
    )


def shoot_scene(task: SceneTask) -> SceneOutcome:
    """Shoots one scene and writes its three files, the truth last."""
    try:
        picture = (
            None if task.source is None else load_picture(task.source, task.config, _depth_rng(task.seed, task.index))
        )
    except RawError as error:
        return SceneOutcome(shot=False, note=str(error))
    pair = render_pair(task.config, task.kind, task.seed, task.index, task.defect, picture)
    blur_at, sharp_at = _shot_times(task)
    blur, sharp = (
        _raw_tags(task.config, pair, pair.plan.blur, blur_at),
        _raw_tags(task.config, pair, pair.plan.sharp, sharp_at),
    )
    files.write_bytes(task.folder / "blur.dng", dng.encode(pair.blur_mosaic, blur))
    files.write_bytes(task.folder / "sharp.dng", dng.encode(pair.sharp_mosaic, sharp))
    files.write_bytes(task.folder / "truth.npz", pair.truth.npz(task.defect))
    return SceneOutcome(shot=True, note=_depth_warning(task, pair))


def _register_series(
    out: Path, task: SceneTask | None, photographs: Sequence[PhotographSource], *, overwrite: bool
) -> None:
    """Marks `out` as holding this series, or refuses if it holds another one."""
    if task is None:
        return
    shown = [[files.sha256_of(path) for path in (p.image, p.depth) if path is not None] for p in photographs]
    series = {
        "version": __version__,
        "kind": task.kind.value,
        "seed": task.seed,
        "photographs": shown,
        "config": task.config.model_dump(mode="json"),
    }
    series["fingerprint"] = fingerprint(series)
    path = out / SERIES_FILE
    if (
        not overwrite
        and (path.exists() or any(out.glob("scene-*")))
        and _read_fingerprint(path) != series["fingerprint"]
    ):
        raise InputError(
            f"{out} holds scenes of another series, seed or configuration",
            hint="choose another --out, or --overwrite to shoot them again",
        )
    files.write_text(path, json.dumps(series, indent=1) + "\n")


def _photograph_for(photographs: Sequence[PhotographSource], index: int) -> PhotographSource | None:
    return photographs[(index - 1) % len(photographs)] if photographs else None


def _depth_rng(seed: int, index: int) -> np.random.Generator:
    """What the depths of a photograph without a depth map are drawn from."""
    return np.random.default_rng([seed, index, 6])


def _read_fingerprint(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_finished(task: SceneTask) -> bool:
    """Whether the scene is complete and has the fault this run wants there."""
    if not all((task.folder / name).is_file() for name in SCENE_FILES):
        return False
    try:
        with np.load(task.folder / "truth.npz", allow_pickle=False) as held:
            fault = str(held["defect"]) if "defect" in held.files else None
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, BadZipFile, zlib.error):
        return False
    return fault == task.defect


def _depth_warning(task: SceneTask, pair: RenderedPair) -> str:
    blurred, sharp = float(pair.truth.coc_px.max()), pair.sharp_coc_px
    if task.defect is Defect.BOTH_BLURRED or (
        blurred <= 1.05 * task.config.max_coc_px and sharp <= 1.05 * task.config.sharp_coc_px
    ):
        return ""
    limits = f"{task.config.max_coc_px:g} and {task.config.sharp_coc_px:g} px"
    return (
        f"its depth (or the colours of the lens) goes beyond the limits of {limits}: "
        f"blurred up to {blurred:.2f} px, sharp up to {sharp:.2f} px"
    )


def _shot_times(task: SceneTask) -> tuple[datetime, datetime]:
    """When the two shots were taken: a minute from scene to scene, some seconds within one."""
    first, gap = np.random.default_rng([task.seed, task.index, 4]).integers((0, 2000), (1000, 5000)).tolist()
    blur_at = _FIRST_SHOT + timedelta(minutes=task.index, milliseconds=first)
    return blur_at, blur_at + timedelta(milliseconds=gap)


def _raw_tags(config: SimulateConfig, pair: RenderedPair, shot: VirtualShot, taken_at: datetime) -> dng.RawTags:
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
