"""Stage `sdd hotpixels`: finds the hot and dead pixels of every camera and stores them in `hot_pixels.json`.

A defect belongs to a camera and a frame size. One blurred frame a scene is examined, of at most 24 scenes of a camera:
defocused content holds no points of light of its own.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from sdd_toolkit.errors import InputError, SddError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess, folders_of
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.formats.containers import RAW_SUFFIXES
from sdd_toolkit.frames.reading import read_mosaic
from sdd_toolkit.pipeline.manifest import read_manifest, to_json
from sdd_toolkit.raw.hot_pixels import MIN_SCENES, Outliers, confirm_hot_pixels, find_outliers
from sdd_toolkit.records import Report
from sdd_toolkit.storage.files import resolve_inside, write_text
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.storage.targets import check_own

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.records import FrameMeta, PairRecord

    PixelPositions = NDArray[np.int32]

log = logging.getLogger(__name__)
OUTPUT = "hot_pixels.json"
FORMAT = "sdd-hot-pixels"
VERSION = 1
MAX_SCENES = 24


@dataclass(frozen=True, slots=True)
class CameraPixels:
    """The defects of one camera at one frame size.

    Attributes:
        camera: Maker, model and, if the files hold one, serial number.
        size: (height, width) of the visible mosaic, even sides, not oriented.
        scenes: Number of scenes examined, one frame of each.
        pixels: (row, column) on that mosaic, in reading order.
        inputs: Fingerprint of the files examined.
    """

    camera: str
    size: tuple[int, int]
    scenes: int
    pixels: tuple[tuple[int, int], ...]
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class HotPixelMap:
    """The defects of all cameras of a data set."""

    cameras: tuple[CameraPixels, ...] = ()

    def of(self, meta: FrameMeta) -> PixelPositions | None:
        """(N, 2) rows and columns to repair in a frame of this camera; None if there are none."""
        entry = self._entry(meta)
        return None if entry is None else np.array(entry.pixels, dtype=np.int32).reshape(-1, 2)

    def inputs(self, record: PairRecord) -> dict[str, str]:
        """Fingerprint of the defects of a pair, as an input of a stage; empty if there is nothing to repair."""
        entries = [self._entry(meta) for meta in (record.blur_meta, record.sharp_meta)]
        if not any(entries):
            return {}
        text = to_json([None if entry is None else entry.pixels for entry in entries])
        return {"hot_pixels": fingerprint_text(text)}

    def _entry(self, meta: FrameMeta) -> CameraPixels | None:
        size = meta.size and tuple(meta.size)
        for entry in self.cameras:
            if entry.pixels and (entry.camera, entry.size) == (camera_of(meta), size):
                return entry
        return None


@dataclass(frozen=True, slots=True)
class _Task:
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _File:
    format: str
    version: int
    cameras: tuple[CameraPixels, ...]


_NO_MOSAIC = "no Bayer mosaic"
_CAMERAS = TypeAdapter(tuple[CameraPixels, ...])


def find_hot_pixels(
    manifest: Path,
    out: Path,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Finds the hot and dead pixels of every camera of a manifest and writes `out/hot_pixels.json`.

    The result of a camera whose files are those of an earlier run is reused. A file that cannot be read is left out;
    `sdd align` reports it.

    Args:
        manifest: Any manifest of the data set.
        out: Folder of the data set: `sdd align`, `filter` and `pack` read the file beside their manifest.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether to examine every camera again.
        track: Shows progress.

    Raises:
        ManifestError: Not a manifest, or a path leaves its root.
        InputError: `out` cannot be written.
    """
    started = time.monotonic()
    workers_of(executor)
    check_own([out / OUTPUT], overwrite=overwrite)
    source = read_manifest(manifest)
    earlier = {} if overwrite else {(entry.camera, entry.size): entry for entry in _read_earlier(out / OUTPUT)}
    plan = {key: _choose_scenes(records) for key, records in _by_camera(source.records).items()}
    entries = {key: earlier[key] for key in plan if key in earlier and earlier[key].inputs == _inputs(plan[key])}
    pending = {key: records for key, records in plan.items() if key not in entries}
    with track("hotpixels", sum(map(len, pending.values()))) as advance:
        for (camera, size), records in pending.items():
            tasks = [_Task(resolve_inside(source.root, record.blur.path), size) for record in records]
            access = FileAccess(folders_of([task.path for task in tasks]))
            results: list[Outliers | str | None] = []
            for outcome in run_tasks(_examine_frame, tasks, executor, access=access):
                advance(note=camera)
                results.append(outcome.result)
            scenes = [result for result in results if isinstance(result, Outliers)]
            entries[camera, size] = _confirm(camera, size, scenes, _inputs(records))
            if any(result != _NO_MOSAIC for result in results):
                _log_defects(entries[camera, size])
    content = _File(FORMAT, VERSION, tuple(entries[key] for key in sorted(entries)))
    write_text(out / OUTPUT, to_json(content) + "\n")
    return Report(
        stage="hotpixels",
        total=len(plan),
        done=len(pending),
        skipped=len(plan) - len(pending),
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(out / OUTPUT),),
    )


def read_hot_pixels(path: Path) -> HotPixelMap:
    """Reads `hot_pixels.json`.

    Raises:
        InputError: The file is missing or invalid.
    """
    try:
        content = json.loads(path.read_bytes())
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {content['format']!r} version {content['version']!r}")
        return HotPixelMap(_CAMERAS.validate_python(content["cameras"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        hint = "run `sdd hotpixels` again, or remove it"
        raise InputError(f"{path} holds no hot pixels: {str(error).splitlines()[0]}", hint=hint) from error


def load_for_manifest(manifest: Path, config: DevelopConfig) -> HotPixelMap:
    """Reads the map beside a manifest; an empty one if there is none or `[develop] hot_pixels` is off.

    Raises:
        InputError: The file is damaged.
    """
    path = manifest.parent / OUTPUT
    return read_hot_pixels(path) if config.hot_pixels and path.is_file() else HotPixelMap()


def copy_to(manifest: Path, out: Path, hot_pixels: HotPixelMap, *, overwrite: bool = False) -> None:
    """Copies the map of a manifest beside the next one, if that lies in another folder."""
    if hot_pixels.cameras and manifest.parent.resolve() != out.resolve():
        check_own([out / OUTPUT], overwrite=overwrite)
        write_text(out / OUTPUT, (manifest.parent / OUTPUT).read_text(encoding="utf-8"))


def camera_of(meta: FrameMeta) -> str:
    """Maker, model and serial number, which identify a camera body; empty if a file names none."""
    return " ".join(part for part in (meta.make, meta.model, meta.serial) if part)


def _by_camera(records: Sequence[PairRecord]) -> Mapping[tuple[str, tuple[int, int]], list[PairRecord]]:
    """The first pair of every scene, by camera and size of its blurred frame; images have no such size."""
    groups: dict[tuple[str, tuple[int, int]], dict[str, PairRecord]] = {}
    for record in sorted(records, key=lambda each: each.id):
        meta = record.blur_meta
        if meta.size is not None and PurePosixPath(record.blur.path).suffix.lower() in RAW_SUFFIXES:
            key = (camera_of(meta), (meta.size[0], meta.size[1]))
            groups.setdefault(key, {}).setdefault(record.scene, record)
    return {key: list(groups[key].values()) for key in sorted(groups)}


def _choose_scenes(records: list[PairRecord]) -> list[PairRecord]:
    """At most `MAX_SCENES` of them, evenly spread."""
    count = min(len(records), MAX_SCENES)
    return [records[index * len(records) // count] for index in range(count)]


def _examine_frame(task: _Task) -> Outliers | str:
    """The outliers of one frame, or the reason why it cannot be examined."""
    try:
        mosaic = read_mosaic(task.path)
    except SddError as error:
        return error.what
    if mosaic is None:
        return _NO_MOSAIC
    height, width = task.size
    samples = mosaic.samples[:height, :width]
    return find_outliers(samples, mosaic.range_dn) if samples.shape == (height, width) else "another size"


def _confirm(camera: str, size: tuple[int, int], scenes: Sequence[Outliers], inputs: str) -> CameraPixels:
    """The defects that the scenes of one camera confirm."""
    pixels = tuple((int(row), int(column)) for row, column in confirm_hot_pixels(scenes, size[1]))
    return CameraPixels(camera, size, len(scenes), pixels, inputs)


def _inputs(records: Sequence[PairRecord]) -> str:
    return fingerprint_text(" ".join(record.blur.sha256 for record in records))


def _read_earlier(path: Path) -> tuple[CameraPixels, ...]:
    try:
        return read_hot_pixels(path).cameras
    except InputError:
        return ()


def _log_defects(entry: CameraPixels) -> None:
    name = entry.camera or "a camera without a name"
    if entry.scenes < MIN_SCENES:
        message = "%s: %d scenes of a mosaic, %d are needed to distinguish a hot pixel from a point of light"
        log.warning(message, name, entry.scenes, MIN_SCENES)
    else:
        log.info("%s: %d hot or dead pixels in %d scenes", name, len(entry.pixels), entry.scenes)
