"""Exports packed pairs as folders of PNG or TIFF, or as WebDataset archives (`sdd export`).

Pixel values and bit depth are unchanged; files of `linear16` carry a profile of linear light, the others are sRGB.
`metadata.jsonl` holds the record of every pair, so that `sdd import` restores
the same pairs under the same ids in the same splits.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.formats.colour import colour_of_encoding
from sdd_toolkit.frames.writing import write_image, write_values
from sdd_toolkit.layouts import sidecar
from sdd_toolkit.layouts.export_layouts import EXPORT_LAYOUTS
from sdd_toolkit.layouts.webdataset import write_archive
from sdd_toolkit.pipeline.manifest import is_file_name, to_json
from sdd_toolkit.records import Reason, Report, ShardInfo
from sdd_toolkit.shards.index import INDEX_NAME, FailedPair, Index, read_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import PARTIAL, resolve_inside, sha256_of, write_text
from sdd_toolkit.storage.folder_lock import LOCK_FILES
from sdd_toolkit.storage.system_files import system_file
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.layouts.export_layouts import ExportLayout
    from sdd_toolkit.shards.schema import PackedPair, Patch

    Image = NDArray[np.uint8] | NDArray[np.uint16]

STAGE = "export"
PATCH_SPLIT = "train"


@dataclass(frozen=True, slots=True)
class _Task:
    shards: Path
    shard: ShardInfo
    out: Path
    target: ExportLayout
    patches: bool
    patch_size: int
    overwrite: bool
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class _ExportedShard:
    """The result of exporting one shard.

    Attributes:
        lines: The line of each pair in `metadata.jsonl`.
        skipped: Number of pairs whose files were there already.
        patch_lines: The line of each patch in `patches.jsonl`.
        failed: The pairs that could not be exported.
    """

    lines: tuple[str, ...] = ()
    skipped: int = 0
    patch_lines: tuple[str, ...] = ()
    failed: tuple[FailedPair, ...] = ()


def export_dataset(
    shards: Path,
    out: Path,
    *,
    layout: str,
    split: str | None = None,
    patches: bool = False,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Exports a packed data set into the folder `out`, which must be empty or hold the same export.

    Files that an earlier run of the same export wrote are kept.

    Args:
        shards: Folder with `index.json`.
        out: `export.json`, `metadata.jsonl` and the files.
        layout: One of `export_layouts.EXPORT_LAYOUTS`.
        split: Export only this split; None: all.
        patches: Write the training patches as files, too.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Write every file again.
        track: Shows progress.

    Raises:
        InputError: No index, no such layout or split, `out` holds something else or cannot be written.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    workers_of(executor)
    target = _export_layout(layout, patches)
    index = read_index(shards)
    chosen = [shard for shard in index.shards if split in (None, shard.split)]
    if not chosen:
        present = ", ".join(sorted({shard.split for shard in index.shards}))
        raise InputError(f"{shards} has no split {split!r}", hint=f"splits: {present}")
    _claim_folder(out, _export_marker(index, sha256_of(shards / INDEX_NAME), layout, split, patches))
    tasks = [
        _Task(shards, shard, out, target, patches, index.patch_size, overwrite, index.encoding) for shard in chosen
    ]
    exported = _export_shards(tasks, executor, track)
    if patches:
        write_text(out / sidecar.PATCH_LINES, "".join(f"{line}\n" for shard in exported for line in shard.patch_lines))
    write_text(out / sidecar.LINES, "".join(f"{line}\n" for shard in exported for line in shard.lines))
    reasons = Counter(failure.reason.value for shard in exported for failure in shard.failed)
    skipped = sum(shard.skipped for shard in exported)
    return Report(
        stage=STAGE,
        total=sum(len(shard.pairs) for shard in chosen),
        done=sum(len(shard.lines) for shard in exported) - skipped,
        skipped=skipped,
        rejected=dict(sorted(reasons.items())),
        seconds=time.monotonic() - started,
        outputs=(str(out / sidecar.LINES),),
    )


def _export_shards(tasks: Sequence[_Task], executor: str, track: Track) -> list[_ExportedShard]:
    """Exports all shards in workers; the results are in the order of the tasks."""
    results: dict[str, _ExportedShard] = {}
    with track(STAGE, sum(len(task.shard.pairs) for task in tasks)) as advance:
        access = FileAccess((tasks[0].shards,), (tasks[0].out,))
        for outcome in run_tasks(_export_shard, tasks, executor, access=access):
            lost = tuple(FailedPair(name, Reason.WORKER_DIED) for name in outcome.task.shard.pairs)
            results[outcome.task.shard.name] = outcome.result or _ExportedShard(failed=lost)
            advance(len(outcome.task.shard.pairs), outcome.task.shard.name)
    return [results[task.shard.name] for task in tasks]


def _export_layout(name: str, patches: bool) -> ExportLayout:
    layout = EXPORT_LAYOUTS.get(name)
    if layout is None:
        names = ", ".join(EXPORT_LAYOUTS)
        raise InputError(f"no layout to export is called {name!r}", hint=f"layouts: {names}, patches")
    if patches and layout.archive:
        raise InputError(f"{name} takes no --patches", hint="export patches as sdd, dpdd, png or tiff")
    return layout


def _export_marker(index: Index, digest: str, layout: str, split: str | None, patches: bool) -> sidecar.Export:
    return sidecar.Export(
        layout=layout,
        name=index.name,
        encoding=index.encoding,
        index_sha256=digest,
        split=split,
        patches=patches,
        toolkit=__version__,
        warp=index.warp,
        brightness=index.brightness,
        demosaic=index.demosaic,
        lens_correction=index.lens_correction,
        configs=index.configs,
    )


def _claim_folder(out: Path, export: sidecar.Export) -> None:
    """Marks `out` as this export's before anything else is written there."""
    hint = "give an empty folder"
    try:
        names = (path.name for path in out.iterdir() if path.name not in LOCK_FILES)
        present = sorted(name for name in names if name.endswith(PARTIAL) or not system_file(name))
    except FileNotFoundError:
        present = []
    except OSError as error:
        raise InputError(f"cannot use {out}: {error.strerror or error}", hint=hint) from error
    if present and present != [sidecar.MARKER + PARTIAL]:
        earlier = sidecar.read_marker(out)
        if earlier is None:
            raise InputError(f"{out} holds {present[0]!r} and no export", hint=hint)
        if earlier != export and [name for name in present if not name.startswith(sidecar.MARKER)]:
            raise InputError(f"{out} holds another export ({earlier.layout} of {earlier.name})", hint=hint)
    write_text(out / sidecar.MARKER, sidecar.marker_text(export))


def _export_shard(task: _Task) -> _ExportedShard:
    """Exports one shard; runs in a worker."""
    if task.target.archive:
        return _ExportedShard(*write_archive(task.shards, task.shard, task.out, task.overwrite))
    lines: list[str] = []
    patch_lines: list[str] = []
    failed: list[FailedPair] = []
    skipped = 0
    with ShardReader(task.shards, task.shard.split) as reader:
        by_pair: dict[str, list[Patch]] = {}
        if task.patches and task.shard.split == PATCH_SPLIT:
            for patch in reader.shard_patches(task.shard):
                by_pair.setdefault(patch.pair, []).append(patch)
        for name in task.shard.pairs:
            if not is_file_name(name):
                failed.append(FailedPair(name, Reason.UNSUPPORTED, "its id cannot name a file"))
                continue
            pair = reader.read(name)
            line, new = _write_frames(task, pair)
            lines.append(sidecar.line_text(line))
            for patch in by_pair.get(name, ()):
                patch_line, patch_is_new = _write_patch(task, pair, patch)
                patch_lines.append(to_json(patch_line))
                new = new or patch_is_new
            skipped += not new
    return _ExportedShard(tuple(lines), skipped, tuple(patch_lines), tuple(failed))


def _write_frames(task: _Task, pair: PackedPair) -> tuple[sidecar.PairLine, bool]:
    """Writes the files of a pair; returns its line, and whether any of the files is new."""
    split = task.shard.split
    paths = {role: task.target.frame_path(role, split, pair.id) for role in ("blur", "sharp", "valid")}
    new = _write_missing(task, paths, pair.blur, pair.sharp)
    masked = not pair.valid.all()
    mask = resolve_inside(task.out, paths["valid"])
    if masked and (task.overwrite or not mask.is_file()):
        write_values(mask, pair.valid.astype("uint8") * 255)
        new = True
    line = sidecar.PairLine(
        id=pair.id,
        scene=pair.record.scene,
        split=split,
        blur=paths["blur"],
        sharp=paths["sharp"],
        valid=paths["valid"] if masked else None,
        height=pair.valid.shape[0],
        width=pair.valid.shape[1],
        blur_sha256=sha256_of(resolve_inside(task.out, paths["blur"])),
        sharp_sha256=sha256_of(resolve_inside(task.out, paths["sharp"])),
        box=pair.box,
        record=sidecar.record_to_dict(pair.record),
    )
    return line, new


def _write_patch(task: _Task, pair: PackedPair, patch: Patch) -> tuple[dict[str, object], bool]:
    split, size = task.shard.split, task.patch_size
    name = f"{pair.id}_{patch.top:05d}_{patch.left:05d}"
    paths = {role: task.target.patch_path(role, split, name) for role in ("blur", "sharp")}
    window = np.s_[patch.top : patch.top + size, patch.left : patch.left + size]
    new = _write_missing(task, paths, pair.blur[window], pair.sharp[window])
    corner = {"pair": pair.id, "top": patch.top, "left": patch.left}
    return {**corner, "sharpness": patch.sharpness, "valid_fraction": patch.valid_fraction, **paths}, new


def _write_missing(task: _Task, paths: Mapping[str, str], blur: Image, sharp: Image) -> bool:
    """Writes the two images, unless they are there and kept; whether any was written."""
    new = False
    for role, image in (("blur", blur), ("sharp", sharp)):
        path = resolve_inside(task.out, paths[role])
        if task.overwrite or not path.is_file():
            write_image(path, image, colour=colour_of_encoding(task.encoding))
            new = True
    return new
