"""Verifies a packed data set: files, hashes, chunks and records against the index (`sdd verify`)."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.audit import leakage
from sdd_toolkit.errors import InputError, IntegrityError, SddError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.raw.development import Demosaic
from sdd_toolkit.records import Report
from sdd_toolkit.shards.folder import LEFTOVER
from sdd_toolkit.shards.index import INDEX_NAME, TRANSFER, read_index, to_indented_json
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import DTYPE, group_name
from sdd_toolkit.storage.files import PARTIAL, resolve_inside, sha256_of
from sdd_toolkit.storage.system_files import system_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import ShardInfo
    from sdd_toolkit.shards.index import Index
    from sdd_toolkit.shards.reader import PairOutline
    from sdd_toolkit.shards.schema import PackedPair, Patch
    from sdd_toolkit.storage.locations import Location

log = logging.getLogger(__name__)
_MAX_SHOWN = 5
_MAX_TASKS = 100
# Below these sizes, starting workers takes longer than decoding, or hashing, in the main process.
_FEW_BYTES, _FEW_BYTES_TO_HASH = 1 << 29, 1 << 31


@dataclass(frozen=True, slots=True)
class _Task:
    """Some shards of a folder; without `pixels` no array is decoded, without `hashes` no byte is hashed."""

    folder: Location
    shards: tuple[ShardInfo, ...]
    pixels: bool
    hashes: bool


@dataclass(frozen=True, slots=True)
class _CheckedShards:
    """The faults of some shards, and their pairs for the search for leakage."""

    findings: tuple[str, ...]
    pairs: tuple[leakage.HashedPair, ...]


def verify_shards(
    shards: Location,
    *,
    pixels: bool = True,
    hashes: bool = True,
    refuse_leakage: bool = False,
    executor: str = "serial",
    track: Track = silent,
) -> Report:
    """Verifies the folder `shards`: no file missing or extra, every hash, every chunk, every number.

    Scenes of different splits that look alike are no fault of the bytes; they are logged as warnings.

    Args:
        shards: Folder with `index.json`.
        pixels: Whether every chunk is decoded. Without it the bytes are still compared with the index, and everything
            but pixels, masks and flows is read: enough for shards whose writer has decoded them.
        hashes: Whether the bytes are hashed. `sdd build` does not: `sdd pack` has just hashed every shard, those of
            earlier runs too.
        refuse_leakage: Whether scenes of different splits that look alike are an error instead of a warning.
        executor: See `sdd_toolkit.execution.executor`; a small set is verified in this process.
        track: Shows progress.

    Raises:
        InputError: No index there, or one of an unknown version.
        LeakageError: The splits share scenes, with `refuse_leakage`.
        IntegrityError: Something is wrong; the first findings are in the message, the others are logged.
    """
    started = time.monotonic()
    workers_of(executor)
    index = read_index(shards)
    findings, pairs = list(index_findings(shards, index)), list[leakage.HashedPair]()
    for task, result in _check_all(shards, index, pixels, hashes, executor, track):
        if result is None:
            findings.append(f"{', '.join(shard.name for shard in task.shards)}: the worker process died on it")
        else:
            findings += result.findings
            pairs += result.pairs
    _raise_findings(findings)
    found = leakage.find_leaks(pairs)
    leakage.log_leaks(found, shards)
    if refuse_leakage:
        leakage.refuse_leaks(found)
    total = sum(len(shard.pairs) for shard in index.shards)
    return Report(
        stage="verify",
        total=total,
        done=total,
        skipped=0,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(shards / INDEX_NAME),),
    )


def _check_all(
    shards: Location, index: Index, pixels: bool, hashes: bool, executor: str, track: Track
) -> list[tuple[_Task, _CheckedShards | None]]:
    """Checks all shards and returns the results in the order of the index; None where a worker died."""
    folder = shards.resolve()
    tasks = [_Task(folder, part, pixels, hashes) for part in _split_into_tasks(index.shards)]
    if sum(shard.bytes for shard in index.shards) < (_FEW_BYTES if pixels else _FEW_BYTES_TO_HASH):
        executor = "serial"
    sees = (folder,) if isinstance(folder, Path) else ()
    access = FileAccess((folder,))
    checked: dict[str, _CheckedShards | None] = {}
    with track("verify", len(index.shards)) as advance:
        for outcome in run_tasks(_check_shards, tasks, executor, pairs=_pair_count, sees=sees, access=access):
            checked[outcome.task.shards[0].name] = outcome.result
            advance(len(outcome.task.shards), note=outcome.task.shards[-1].name)
    return [(task, checked[task.shards[0].name]) for task in tasks]


def _raise_findings(findings: list[str]) -> None:
    for finding in findings[_MAX_SHOWN:]:
        log.error("%s", finding)
    if findings:
        more = f" and {len(findings) - _MAX_SHOWN} more" if len(findings) > _MAX_SHOWN else ""
        raise IntegrityError(
            "; ".join(findings[:_MAX_SHOWN]) + more,
            hint="restore these files from their source, or run `sdd pack` again",
        )


def _split_into_tasks(shards: tuple[ShardInfo, ...]) -> list[tuple[ShardInfo, ...]]:
    """The shards in at most `_MOST_TASKS` parts: each task reads the index, which lists them all."""
    size = max(1, -(-len(shards) // _MAX_TASKS))
    return [shards[start : start + size] for start in range(0, len(shards), size)]


def _pair_count(task: _Task) -> int:
    return max(1, sum(len(shard.pairs) for shard in task.shards))


def _check_shards(task: _Task) -> _CheckedShards:
    findings, pairs = list[str](), list[leakage.HashedPair]()
    with ShardReader(task.folder) as reader:
        for shard in task.shards:
            faults = list(shard_findings(reader, shard, pixels=task.pixels, hashes=task.hashes))
            findings += [f"{shard.name}: {fault}" for fault in faults]
            if not faults:
                outlines = [reader.outline(name) for name in shard.pairs]
                pairs += [leakage.hash_pair(each.record, shard.split, each.perceptual_hash) for each in outlines]
            # Frees the records and chunk numbers of the shard: there may be many shards.
            reader.close()
    return _CheckedShards(tuple(findings), tuple(pairs))


def index_findings(folder: Location, index: Index) -> Iterator[str]:
    """The faults of the index itself, and files that belong to no shard of it."""
    text = (folder / INDEX_NAME).read_bytes()
    if text != to_indented_json(json.loads(text)).encode():
        yield f"{INDEX_NAME}: not laid out as `sdd pack` writes it"
    yield from (f"{INDEX_NAME}: {fault}" for fault in (*_repeated_names(index), *_contradictions(index)))
    names = [shard.name for shard in index.shards]
    for path in sorted((PurePath(entry.name) for entry in folder.iterdir()), key=str):
        shard_like = ".h5" in path.suffixes and not system_file(path.name)
        if path.name not in names and (shard_like or (path.suffix == PARTIAL and LEFTOVER.fullmatch(path.name))):
            yield f"{path.name}: not in the index"


def _repeated_names(index: Index) -> Iterator[str]:
    shards = [shard.name for shard in index.shards]
    pairs = [pair for shard in index.shards for pair in shard.pairs]
    scenes = [scene for members in index.splits.values() for scene in members]
    for kind, names in (("shard", shards), ("pair", pairs), ("scene", scenes)):
        for name in sorted(name for name, count in Counter(names).items() if count > 1):
            yield f"the {kind} {name!r} appears twice"
    for failure in index.failed:
        if failure.id in pairs:
            yield f"the pair {failure.id!r} is both packed and failed"


def _contradictions(index: Index) -> Iterator[str]:
    if index.transfer != TRANSFER[index.encoding]:
        yield f"transfer is not the curve of {index.encoding.value}"
    if index.transfer_parameters not in (None, index.encoding.transfer):
        yield f"transfer_parameters are not the curve of {index.encoding.value}"
    if index.reduction != (2 if index.demosaic is Demosaic.HALF else 1):
        yield f"a reduction of {index.reduction} does not go with demosaic = {index.demosaic.value}"


def shard_findings(reader: ShardReader, shard: ShardInfo, *, pixels: bool = True, hashes: bool = True) -> Iterator[str]:
    """The faults of one shard; only the first one if its bytes differ from the index."""
    try:
        path = resolve_inside(reader.folder, shard.name)
        size = path.stat().st_size
        if size != shard.bytes:
            yield f"{size} bytes, the index says {shard.bytes}"
            return
        if hashes and sha256_of(path) != shard.sha256:
            yield "SHA-256 differs from the index"
            return
    except (OSError, InputError) as error:
        yield "missing" if isinstance(error, FileNotFoundError) else str(error)
        return
    try:
        yield from _content_findings(reader, shard, pixels)
    except (IntegrityError, InputError) as error:
        yield _strip_shard_name(shard, error)


def _content_findings(reader: ShardReader, shard: ShardInfo, pixels: bool) -> Iterator[str]:
    if reader.header(shard) != reader.index.header(shard.split):
        yield "its attributes differ from the index"
    if reader.groups(shard) != tuple(sorted(group_name(name) for name in shard.pairs)):
        yield "it does not hold the pairs the index says"
    patches = reader.shard_patches(shard)
    if len(patches) != shard.patches:
        yield f"{len(patches)} patches, the index says {shard.patches}"
    by_pair: dict[str, list[Patch]] = {}
    for patch in patches:
        by_pair.setdefault(patch.pair, []).append(patch)
    for name in sorted(set(by_pair) - set(shard.pairs)):
        yield f"patches of {name!r}, which is not in this shard"
    for name in shard.pairs:
        for finding in _pair_findings(reader, shard, name, by_pair.get(name, []), pixels):
            yield f"{name}: {finding}"


def _pair_findings(
    reader: ShardReader, shard: ShardInfo, name: str, patches: list[Patch], pixels: bool
) -> Iterator[str]:
    index = reader.index
    try:
        outline, pair = reader.outline(name), reader.read(name) if pixels else None
    except IntegrityError as error:
        yield _strip_shard_name(shard, error)
        return
    yield from outline_findings(name, outline, patches, index)
    if pair is not None:
        yield from pixel_findings(pair, patches, index)
    if outline.record.scene not in index.splits.get(shard.split, ()):
        yield f"its scene {outline.record.scene!r} is not of the split {shard.split!r}"


def _strip_shard_name(shard: ShardInfo, error: SddError) -> str:
    return error.what.removeprefix(f"{shard.name}: ")


def outline_findings(pair_id: str, pair: PairOutline, patches: list[Patch], index: Index) -> Iterator[str]:
    """The faults of one pair and its patches that are visible without pixels."""
    height, width = pair.arrays["valid"][1]
    dtype = np.dtype(DTYPE[index.encoding])
    for name in ("blur", "sharp"):
        if pair.arrays[name] != (dtype, (height, width, 3)):
            stored_dtype, shape = pair.arrays[name]
            yield f"{name} is {stored_dtype} {shape}, expected {dtype} {(height, width, 3)}"
    quarter = (-(-height // FLOW_FACTOR), -(-width // FLOW_FACTOR), 2)
    if pair.arrays["flow"][1] != quarter:
        yield f"flow is {pair.arrays['flow'][1]}, expected {quarter}"
    if pair.box is not None and (pair.box[3] - pair.box[1], pair.box[2] - pair.box[0]) != (height, width):
        yield f"its box is {pair.box}, its arrays are {(height, width)}"
    if pair.record.id != pair_id:
        yield f"its record is that of {pair.record.id!r}"
    for patch in patches:
        if not _is_inside(patch, index.patch_size, height, width):
            yield f"the patch at {(patch.top, patch.left)} leaves the frame"
        elif not 0 <= patch.sharpness <= 1:
            yield f"the patch at {(patch.top, patch.left)} has sharpness {patch.sharpness}"


def pixel_findings(pair: PackedPair, patches: list[Patch], index: Index) -> Iterator[str]:
    """The faults in the pixels of one pair and its patches."""
    if not np.all(np.isfinite(pair.flow)):
        yield "flow is not finite"
    edge = index.patch_size
    for patch in patches:
        if _is_inside(patch, edge, *pair.valid.shape):
            share = pair.valid[patch.top : patch.top + edge, patch.left : patch.left + edge].mean()
            if abs(share - patch.valid_fraction) > 1e-6:
                yield f"the patch at {(patch.top, patch.left)} has {share:.4f} valid, not {patch.valid_fraction:.4f}"


def _is_inside(patch: Patch, edge: int, height: int, width: int) -> bool:
    return 0 <= patch.top <= height - edge and 0 <= patch.left <= width - edge
