"""The stage that re-reads a packed data set and compares every byte of it with what the index promises."""

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
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.raw.development import Demosaic
from sdd_toolkit.records import Report
from sdd_toolkit.shards.index import INDEX_NAME, TRANSFER, read_index, to_indented_json
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import DTYPE, group_name
from sdd_toolkit.storage.files import PARTIAL, resolve_inside, sha256_of

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
# Starting workers costs more than decoding, or hashing, so much.
_FEW_BYTES, _FEW_BYTES_TO_HASH = 1 << 29, 1 << 31


@dataclass(frozen=True, slots=True)
class _Task:
    """Some shards of a folder; without `pixels` no array of theirs is decoded, without `hashes` no byte is hashed."""

    folder: Location
    shards: tuple[ShardInfo, ...]
    pixels: bool
    hashes: bool


@dataclass(frozen=True, slots=True)
class _CheckedShards:
    """What is wrong with some shards, and what their pairs show."""

    findings: tuple[str, ...]
    seen: tuple[leakage.HashedPair, ...]


def verify_shards(
    shards: Location, *, pixels: bool = True, hashes: bool = True, executor: str = "serial", track: Track = silent
) -> Report:
    """Checks the folder `shards`: nothing missing, nothing extra, every hash, every chunk, every number.

    Scenes of different splits that look alike are no fault of the bytes: the log tells of them.

    Args:
        shards: Folder with `index.json`.
        pixels: Whether every chunk is decoded. Without it the bytes are compared with the index all the same, and
            everything but pixels, masks and flows is read: enough for shards whose writer has decoded them.
        hashes: Whether the bytes are compared with the index. `sdd build` need not: `sdd pack` has just hashed every
            shard, those of earlier runs too.
        executor: Who looks at the shards, see `executor`; little is looked at here, whoever that is.
        track: Shows the progress.

    Raises:
        InputError: No index there, or one of an unknown version.
        IntegrityError: Something is wrong; the first findings are in the message, the others are logged.
    """
    started = time.monotonic()
    workers_of(executor)
    index = read_index(shards)
    findings, seen = list(index_findings(shards, index)), list[leakage.HashedPair]()
    checked: dict[str, _CheckedShards | None] = {}
    tasks = [_Task(shards.resolve(), part, pixels, hashes) for part in _split_into_tasks(index.shards)]
    few = sum(shard.bytes for shard in index.shards) < (_FEW_BYTES if pixels else _FEW_BYTES_TO_HASH)
    where = shards.resolve()
    sees = (where,) if isinstance(where, Path) else ()
    with track("verify", len(index.shards)) as advance:
        for outcome in run_tasks(_check_shards, tasks, "serial" if few else executor, pairs=_pair_count, sees=sees):
            checked[outcome.task.shards[0].name] = outcome.result
            advance(len(outcome.task.shards), note=outcome.task.shards[-1].name)
    for task in tasks:
        result = checked[task.shards[0].name]
        if result is None:
            findings.append(f"{', '.join(shard.name for shard in task.shards)}: the worker process died on it")
        else:
            findings += result.findings
            seen += result.seen
    for finding in findings[_MAX_SHOWN:]:
        log.error("%s", finding)
    if findings:
        more = f" and {len(findings) - _MAX_SHOWN} more" if len(findings) > _MAX_SHOWN else ""
        raise IntegrityError(
            "; ".join(findings[:_MAX_SHOWN]) + more,
            hint="restore these files from their source, or run `sdd pack` again",
        )
    leakage.log_leaks(leakage.find_leaks(seen), shards)
    pairs = sum(len(shard.pairs) for shard in index.shards)
    return Report(
        stage="verify",
        total=pairs,
        done=pairs,
        skipped=0,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(shards / INDEX_NAME),),
    )


def _split_into_tasks(shards: tuple[ShardInfo, ...]) -> list[tuple[ShardInfo, ...]]:
    """The shards in at most `_MOST_TASKS` parts: each task reads the index, which lists them all."""
    size = max(1, -(-len(shards) // _MAX_TASKS))
    return [shards[at : at + size] for at in range(0, len(shards), size)]


def _pair_count(task: _Task) -> int:
    return max(1, sum(len(shard.pairs) for shard in task.shards))


def _check_shards(task: _Task) -> _CheckedShards:
    findings, seen = list[str](), list[leakage.HashedPair]()
    with ShardReader(task.folder) as reader:
        for shard in task.shards:
            found = [
                f"{shard.name}: {finding}"
                for finding in shard_findings(reader, shard, pixels=task.pixels, hashes=task.hashes)
            ]
            findings += found
            if not found:
                outlines = [reader.outline(name) for name in shard.pairs]
                seen += [leakage.hash_pair(each.record, shard.split, each.perceptual_hash) for each in outlines]
            # Its records and chunk numbers are not needed any more, and there may be many shards.
            reader.close()
    return _CheckedShards(tuple(findings), tuple(seen))


def index_findings(folder: Location, index: Index) -> Iterator[str]:
    """What is wrong with the index itself, and files that belong to no shard of it."""
    text = (folder / INDEX_NAME).read_bytes()
    if text != to_indented_json(json.loads(text)).encode():
        yield f"{INDEX_NAME}: not laid out as `sdd pack` writes it"
    names = [shard.name for shard in index.shards]
    pairs = [pair for shard in index.shards for pair in shard.pairs]
    scenes = [scene for members in index.splits.values() for scene in members]
    for kind, values in (("shard", names), ("pair", pairs), ("scene", scenes)):
        for value in sorted(value for value, count in Counter(values).items() if count > 1):
            yield f"{INDEX_NAME}: the {kind} {value!r} appears twice"
    for failure in index.failed:
        if failure.id in pairs:
            yield f"{INDEX_NAME}: the pair {failure.id!r} is both packed and failed"
    if index.transfer != TRANSFER[index.encoding]:
        yield f"{INDEX_NAME}: transfer is not the curve of {index.encoding.value}"
    if index.transfer_parameters not in (None, index.encoding.transfer):
        yield f"{INDEX_NAME}: transfer_parameters are not the curve of {index.encoding.value}"
    if index.reduction != (2 if index.demosaic is Demosaic.HALF else 1):
        yield f"{INDEX_NAME}: a reduction of {index.reduction} does not go with demosaic = {index.demosaic.value}"
    for path in sorted((PurePath(entry.name) for entry in folder.iterdir()), key=str):
        if path.name not in names and (".h5" in path.suffixes or path.suffix == PARTIAL):
            yield f"{path.name}: not in the index"


def shard_findings(reader: ShardReader, shard: ShardInfo, *, pixels: bool = True, hashes: bool = True) -> Iterator[str]:
    """What is wrong with one shard; nothing but its first fault if its bytes are not the promised ones."""
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
    index = reader.index
    if reader.header(shard) != index.header(shard.split):
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
        try:
            outline, pair = reader.outline(name), reader.read(name) if pixels else None
        except IntegrityError as error:
            yield f"{name}: {_strip_shard_name(shard, error)}"
            continue
        own = by_pair.get(name, [])
        for finding in [
            *outline_findings(name, outline, own, index),
            *(pixel_findings(pair, own, index) if pair else ()),
        ]:
            yield f"{name}: {finding}"
        if outline.record.scene not in index.splits.get(shard.split, ()):
            yield f"{name}: its scene {outline.record.scene!r} is not of the split {shard.split!r}"


def _strip_shard_name(shard: ShardInfo, error: SddError) -> str:
    return error.what.removeprefix(f"{shard.name}: ")


def outline_findings(pair_id: str, pair: PairOutline, patches: list[Patch], index: Index) -> Iterator[str]:
    """What is wrong with one pair and its patches, as far as it shows without its pixels."""
    height, width = pair.arrays["valid"][1]
    dtype = np.dtype(DTYPE[index.encoding])
    for name in ("blur", "sharp"):
        if pair.arrays[name] != (dtype, (height, width, 3)):
            found, shape = pair.arrays[name]
            yield f"{name} is {found} {shape}, expected {dtype} {(height, width, 3)}"
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
    """What else is wrong with one pair and its patches."""
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
