"""The stage `simulate`: shoots a series of scenes with the virtual camera, RAW pairs with their truth; resumes."""

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
from sdd_toolkit.execution.landlock import FileAccess, folders_of
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
    from sdd_toolkit.execution.progress import Track

SERIES_FILE = "simulate.json"
DEFAULT_SCENES = 12
SCENE_FILES = ("blur.dng", "sharp.dng", "truth.npz")
_FIRST_SHOT = datetime(2026, 1, 1, 10, 0, 0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Series:
    """The scenes of a series.

    Attributes:
        scenes: Number of good pairs; None: one of each photograph, or 12.
        kind: `focus` or `aperture`.
        seed: Seed of the series, 0 or more.
        defects: Adds one scene for each `Defect`.
        photographs: Photographs to shoot instead of dead leaves, one a scene, repeated as needed.
    """

    scenes: int | None = None
    kind: str = PairKind.FOCUS
    seed: int = 0
    defects: bool = False
    photographs: Sequence[PhotographSource] = ()


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
    """Whether a scene was shot, and a warning about it."""

    shot: bool
    note: str


def simulate_pairs(
    out: Path,
    config: SimulateConfig,
    series: Series,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Shoots the scenes of `series` into `out`/scene-0001 ….

    The random numbers of a scene depend only on its seed and number, so its bytes depend neither on the number of
    workers nor on that of scenes. Complete scenes are kept.

    Args:
        out: Folder of the series; created if missing.
        config: The camera.
        series: The scenes.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Shoots everything again, whatever `out` holds.
        track: Shows progress.

    Raises:
        InputError: A value is out of range, a file cannot be used, or `out` holds another series.
    """
    started = time.monotonic()
    tasks = _list_tasks(out, config, series)
    _register_series(out, tasks[0] if tasks else None, series.photographs, overwrite=overwrite)
    pending = [task for task in tasks if overwrite or not _is_finished(task)]
    read = {path.resolve() for each in series.photographs for path in (each.image, each.depth) if path is not None}
    access = FileAccess(folders_of(list(read)), (out.resolve(),))
    died = unreadable = 0
    with track("simulate", len(pending)) as advance:
        for outcome in run_tasks(shoot_scene, pending, executor, access=access):
            died += outcome.result is None
            unreadable += outcome.result is not None and not outcome.result.shot
            if outcome.result is not None and outcome.result.note:
                _log.warning("%s: %s", outcome.task.folder.name, outcome.result.note)
            advance(note=outcome.task.folder.name)
    rejected = {Reason.WORKER_DIED: died, Reason.UNREADABLE: unreadable}
    return Report(
        stage="simulate",
        total=len(tasks),
        done=len(pending) - died - unreadable,
        skipped=len(tasks) - len(pending),
        rejected={reason.value: count for reason, count in rejected.items() if count},
        seconds=time.monotonic() - started,
        outputs=(str(out),),
    )


def _list_tasks(out: Path, config: SimulateConfig, series: Series) -> list[SceneTask]:
    photographs, seed = series.photographs, series.seed
    count = (len(photographs) or DEFAULT_SCENES) if series.scenes is None else series.scenes
    if count < 0 or seed < 0:
        raise InputError(f"scenes = {count}, seed = {seed}: must not be negative", hint="use 0 or more")
    if len(photographs) == 1:
        load_picture(photographs[0], config, _depth_rng(seed, 1))
    defects: list[Defect | None] = [*[None] * count, *(Defect if series.defects else ())]
    kind = PairKind(series.kind)
    return [
        SceneTask(out / f"scene-{index:04d}", config, kind, seed, index, defect, _photograph_for(photographs, index))
        for index, defect in enumerate(defects, 1)
    ]


def shoot_scene(task: SceneTask) -> SceneOutcome:
    """Shoots one scene and writes its three files, the truth last."""
    try:
        rng = _depth_rng(task.seed, task.index)
        picture = None if task.source is None else load_picture(task.source, task.config, rng)
    except RawError as error:
        return SceneOutcome(shot=False, note=str(error))
    pair = render_pair(task.config, task.kind, task.seed, task.index, task.defect, picture)
    blur_at, sharp_at = _shot_times(task)
    blur, sharp = pair.plan.blur, pair.plan.sharp
    # Both shots are metered alike: the time grows with the square of the f-number.
    blur_s = 1.0 / max(1, round(250 * (2.8 / blur.f_number) ** 2 * task.config.iso / 200))
    sharp_s = blur_s * (sharp.f_number / blur.f_number) ** 2
    blur_tags = sensor.raw_tags(task.config, blur, blur_s, blur_at)
    sharp_tags = sensor.raw_tags(task.config, sharp, sharp_s, sharp_at)
    files.write_bytes(task.folder / "blur.dng", dng.encode(pair.blur_mosaic, blur_tags))
    files.write_bytes(task.folder / "sharp.dng", dng.encode(pair.sharp_mosaic, sharp_tags))
    files.write_bytes(task.folder / "truth.npz", pair.truth.npz(task.defect))
    return SceneOutcome(shot=True, note=_depth_warning(task, pair))


def _register_series(
    out: Path, task: SceneTask | None, photographs: Sequence[PhotographSource], *, overwrite: bool
) -> None:
    """Writes the description of the series into `out`.

    Raises:
        InputError: The folder holds another series.
    """
    if task is None:
        return
    digests = [[files.sha256_of(path) for path in (p.image, p.depth) if path is not None] for p in photographs]
    series = {
        "version": __version__,
        "kind": task.kind.value,
        "seed": task.seed,
        "photographs": digests,
        "config": task.config.fingerprinted(),
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
    """Random generator of the depth of a photograph without a depth map."""
    return np.random.default_rng([seed, index, 6])


def _read_fingerprint(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_finished(task: SceneTask) -> bool:
    """Whether the scene is complete and has the defect of this task."""
    if not all((task.folder / name).is_file() for name in SCENE_FILES):
        return False
    try:
        with np.load(task.folder / "truth.npz", allow_pickle=False) as truth:
            defect = str(truth["defect"]) if "defect" in truth.files else None
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, BadZipFile, zlib.error):
        return False
    return defect == task.defect


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
    """Capture times of the two shots: a minute from scene to scene, some seconds within one."""
    first, gap = np.random.default_rng([task.seed, task.index, 4]).integers((0, 2000), (1000, 5000)).tolist()
    blur_at = _FIRST_SHOT + timedelta(minutes=task.index, milliseconds=first)
    return blur_at, blur_at + timedelta(milliseconds=gap)
